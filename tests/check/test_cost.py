from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presel_lightning.check.cost import (
    Answering,
    Comparison,
    answering_memory,
    cache_bytes,
    comparison_bytes,
    comparison_hours,
    disk_bytes,
    fitting_items,
    gpu_hours,
    gpu_memory,
)
from presel_lightning.check.network import Network
from presel_lightning.check.report import share
from presel_lightning.console import size
from presel_lightning.recipe.passes.base import PUBLISHED_PARAMETERS, Throughput, Work

NEEDS = ("features", "paired_loss")
LLAVA665K = Work(31_230, 624_610, {"final": 93_692, "full": 665_298}, 624_610, needs=NEEDS)
# LLaVA-1.5-7B in bf16 with LoRA of rank 128 (319.8 M) and its projector (21.0 M)
LLAVA15 = Network(7_063_000_000, 340_800_000, 14.1e9, 4096, 32, 32_064, 2 * 32 * 4096)


def test_gpu_hours_match_the_published_cost() -> None:
    """Source: PreSel's cost table: selection 9.0, fit 11.0, full 76.0 GPU-hours."""
    speed = Throughput().scaled(int(PUBLISHED_PARAMETERS))
    hours = gpu_hours(LLAVA665K, speed)
    selection = hours["reference"] + hours["losses"] + hours["features"]
    assert selection == pytest.approx(9.0, abs=0.2)
    assert hours["final"] == pytest.approx(11.0, abs=0.3)
    assert hours["full"] == pytest.approx(76.0, abs=2)


def test_throughput_of_doubled_model_is_halved() -> None:
    """As published: LLaVA-1.5 takes 80 GPU-hours with 7B and 160 with 13B."""
    once, twice = Throughput(), Throughput().scaled(int(2 * PUBLISHED_PARAMETERS))
    assert twice.training == pytest.approx(once.training / 2)
    assert twice.features == once.features


def test_gpu_hours_omit_stages_without_samples() -> None:
    hours = gpu_hours(Work(0, 0, {"final": 100}, 100), Throughput())
    assert list(hours) == ["final"]


def test_gpu_hours_held_out_losses_take_two_fits_and_three_passes() -> None:
    """Nine samples: halves of five and four by the final recipe, each sample scored twice."""
    speed = Throughput(training=1 / 3600, losses=1 / 3600, features=1 / 3600)
    epochs = {"reference": 5.0, "final": 2.0}
    work = Work(9, 0, {"final": 100}, 100, 7, ("held_out_loss",), epochs)
    assert gpu_hours(work, speed) == pytest.approx(
        {"held_out_a": 10, "held_out_b": 8, "held_out": 18, "final": 214}
    )


def test_disk_counts_models_of_both_halves() -> None:
    network = replace(LLAVA15, trained=1000)
    without = Work(0, 0, {"final": 15}, 100)
    with_them = replace(without, reference=5, needs=("held_out_loss",))
    more = disk_bytes(with_them, network, 768, 1000) - disk_bytes(without, network, 768, 1000)
    assert more == 2 * 4 * 1000 + 1000 * 10 / 100  # two models; the split is listed twice


def test_disk_counts_earlier_checkpoints_of_the_reference_fit_where_it_is_made() -> None:
    """Weights and both moments of each, in the work folder and beside the model."""
    network = replace(LLAVA15, trained=1000)
    work = Work(5, 0, {"final": 15}, 100, needs=("head_gradients",), gradient_width=16)
    more = replace(work, warmup_checkpoints=4)
    added = disk_bytes(more, network, 768, 1000) - disk_bytes(work, network, 768, 1000)
    assert added == 3 * 2 * 3 * 4 * 1000
    none = replace(more, needs=("features",))
    assert disk_bytes(none, network, 768, 1000) == disk_bytes(
        replace(none, warmup_checkpoints=1), network, 768, 1000
    )


def test_cache_of_64_answers_of_a_7b_is_21_gb() -> None:
    """576 places of an image, a short question, 32 tokens of an answer, in 16 bits."""
    asked = Answering("VQA", 64, 608, 32, 2)
    assert cache_bytes(LLAVA15, asked) == pytest.approx(21.5e9, rel=0.01)
    assert answering_memory(LLAVA15, asked) > 14.1e9 + 16 * 340.8e6 + 21e9


@given(
    prompt=st.integers(1, 4096),
    answer=st.integers(0, 1024),
    there=st.floats(1e9, 1e12),
    shards=st.sampled_from([1, 8]),
)
def test_fitting_items_is_the_largest_batch_that_fits(
    prompt: int, answer: int, there: float, shards: int
) -> None:
    asked = Answering("VQA", 64, prompt, answer, 2)
    n = fitting_items(LLAVA15, asked, shards, there)
    if n:
        assert answering_memory(LLAVA15, replace(asked, batch=n), shards) <= there * (1 + 1e-9)
    more = answering_memory(LLAVA15, replace(asked, batch=n + 1), shards)
    assert more > there * (1 - 1e-9)


def test_gpu_memory_matches_the_published_recipe() -> None:
    """16 samples a GPU of 80 GB with checkpointing; without it they do not fit."""
    lean = gpu_memory(LLAVA15, 16, 1024, 128, checkpointing=True)
    assert 20e9 < lean < 40e9
    assert gpu_memory(LLAVA15, 16, 2048, 128, checkpointing=False) > 80e9


@given(batch=st.integers(1, 64), length=st.integers(1, 4096), shards=st.integers(2, 64))
def test_gpu_memory_grows_with_batch_and_shrinks_with_shards(
    batch: int, length: int, shards: int
) -> None:
    needed = gpu_memory(LLAVA15, batch, length, 10, checkpointing=True)
    assert needed < gpu_memory(LLAVA15, batch + 1, length, 10, checkpointing=True)
    assert needed > gpu_memory(LLAVA15, batch, length, 10, checkpointing=True, shards=shards)
    assert needed < gpu_memory(replace(LLAVA15, layers=64), batch, length, 10, checkpointing=True)


def test_disk_bytes_sum_features_records_and_models() -> None:
    work = Work(5, 80, {"final": 15, "random": 15}, 100, needs=NEEDS)
    network = replace(LLAVA15, trained=1000)
    features, listed, models = 4 * 768 * 180, 1000 * (1 + 25 / 100), 1000 * (4 * 3 + 12 * 3)
    assert disk_bytes(work, network, 768, 1000) == features + listed + models


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("hidden_states", 4 * 4096), ("layer_features", 2 * 5 * 2 * 4096), ("token_loss", 0)],
)
def test_disk_counts_what_a_signal_holds_twice(name: str, numbers: int) -> None:
    """As blocks and merged: float32 of width 4,096; five layers, image and text, in half precision."""
    without = Work(0, 0, {"final": 15}, 100)
    more = disk_bytes(replace(without, needs=(name,)), LLAVA15, 768, 0)
    assert more - disk_bytes(without, LLAVA15, 768, 0) == 2 * 100 * numbers


def test_disk_of_a_comparison_holds_a_signal_once_and_a_model_a_cell() -> None:
    work = Work(reference=50, images=800, arms={"final": 150}, pool=1000)
    network = replace(LLAVA15, trained=1000)
    comparison = Comparison((("features",), ("features", "hidden_states")), (0.1, 150), 3, True)
    signals = 4 * 768 * 1800 + 2 * 4 * 4096 * 1000
    listed = 7 * (1 + 3 * 2 * 250 / 1000)
    models = 4 * 1000 * 3 * (2 * 2 + 1) + 12 * 1000 * 3
    needed = comparison_bytes(comparison, work, network, 768, 7)
    assert needed == pytest.approx(signals + listed + models)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (76e9, "76 GB"),
        (2e15, "2.0 PB"),
        (9e18, "9000 PB"),
    ],
)
def test_size_formats_bytes_with_a_unit(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text


def test_share_of_zero_total_is_zero_percent() -> None:
    assert share(0, 0) == "0 (0.0 %)"


def test_comparison_counts_signals_once_or_once_a_seed_and_a_fit_for_each_cell() -> None:
    work = Work(reference=50, images=800, arms={"final": 150}, pool=1000, needs=())
    comparison = Comparison(
        (("features", "paired_loss"), (), ("features", "token_loss")), (0.1, 150), 3, True
    )
    speed = Throughput(training=2.0, losses=4.0, features=10.0)
    hours = comparison_hours(comparison, work, speed)
    assert {stage: round(3600 * took, 6) for stage, took in hours.items()} == {
        "features": 80.0,
        "reference": 3 * 25.0,
        "losses": 3 * 12.5,
        "token_loss": 1.25 * 250.0,
        "cells": 3 * 3 * (100 + 150) / 2.0,
        "full": 3 * 500.0,
    }
