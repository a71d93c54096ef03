"""Passes over the instructions: values, interruption, processes, samples without instructions."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import LlavaForConditionalGeneration

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, load_pool
from presel_lightning.data.images import open_rgb
from presel_lightning.loading.datasets import validity_question
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.models.image_text import (
    image_vectors,
    load_image_text,
    load_readers,
    text_vectors,
)
from presel_lightning.models.llava_processor import load_processor
from presel_lightning.quickstart import CHECKPOINT
from presel_lightning.signals import Signals
from presel_lightning.tasks.block_writer import BlockWriter
from tests.conftest import fit_arguments
from tests.ranks import run_on_two
from tests.recipe.passes.few import first_records

SIGNALS = {
    "token_loss": "loss_with_question",
    "hidden_states": "entropy",
    "layer_features": "finite",
    "clip_similarity": "similarity",
    "visual_tokens": "finite",
    "answer_validity": "with_question",
    "gradients": "length",
    "head_gradients": "length",
    "pair_gradients": "length",
}
"""Signals of instructions, and a column of each."""


def arguments(pool_folder: Path, out: Path, *more: str) -> list[str]:
    """Make all of these signals, and nothing else; gradients of a reference model of four samples."""
    given = fit_arguments(pool_folder, out, "--selector", "Random", *more)
    reference = ["--data.always_reference", "true", "--data.reference", "4"]
    gradients = ["--gradient_width", "64", "--validation", str(pool_folder / "train.json")]
    options = [*reference, *gradients, "--data.block_size", "16"]
    return ["prepare", *given[1:], *options, "--signals", *SIGNALS]


@pytest.fixture(scope="module")
def few(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 records of the pool: nine of each task, some of them without an instruction."""
    folder = tmp_path_factory.mktemp("few") / "pool"
    kept = first_records(pool_folder, folder, 9)
    for record in kept[8::9]:  # none of the reference split
        record["conversations"] = []
    (folder / "train.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture(scope="module")
def out(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instructions") / "run"
    assert main(arguments(few, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def pool(out: Path, few: Path) -> Pool:
    return load_pool(out, few)


@pytest.fixture(scope="module")
def model() -> Any:
    return LlavaForConditionalGeneration.from_pretrained(CHECKPOINT).eval()


def read(out: Path, pool: Pool, signal: str, column: str) -> np.ndarray:
    found: np.ndarray = Signals(out / "signals").__getattr__(signal)(
        pool, np.arange(len(pool)), column
    )
    return found


def encoder() -> Encoder:
    made: Encoder = encoder_of("vicuna_bare", load_processor("quickstart"), 2048)
    return made


def inputs(pool: Pool, row: int, **options: bool) -> dict[str, torch.Tensor]:
    """One sample as the model reads it, without padding."""
    made = encoder()
    encoded = made(pool.sample(row).turns, **options)
    batch = {
        "input_ids": torch.tensor([encoded.input_ids]),
        "labels": torch.tensor([encoded.labels]),
    }
    if options.get("image", True):
        batch["pixel_values"] = made.processor.pixels(open_rgb(pool.image_path(row)))[None]
    return batch


def written(pool: Pool) -> list[int]:
    rows: list[int] = np.flatnonzero(pool.has_instruction)[::4].tolist()
    return rows


def test_samples_without_an_instruction_have_no_values(out: Path, pool: Pool) -> None:
    assert (~pool.has_instruction).sum() == 4
    for signal, column in SIGNALS.items():
        values = read(out, pool, signal, column)
        assert (np.isfinite(values) == pool.has_instruction).all()
    stages = json.loads((out / "run.json").read_text())["stages"]
    assert all(
        stages[s]["without_instruction"] == 4 and stages[s]["samples"] == 32 for s in SIGNALS
    )


@torch.no_grad()
def test_token_loss_equals_transformers_own_loss_of_each_input(
    out: Path, pool: Pool, model: Any
) -> None:
    sides = {
        "loss_with_question": {},
        "loss_without_question": {"with_question": False},
        "loss_without_image": {"image": False},
    }
    found = {name: read(out, pool, "token_loss", name) for name in [*sides, "error_norm", "margin"]}
    for row in written(pool):
        for name, options in sides.items():
            expected = float(model(**inputs(pool, row, **options)).loss)
            assert found[name][row] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        batch = inputs(pool, row)
        chances = model(**batch).logits[0].softmax(dim=-1)
        norms, margins = [], []
        for place, label in enumerate(batch["labels"][0].tolist()):
            if label >= 0:
                wrong = chances[place - 1].clone()
                margins.append(
                    float(wrong[label] - max(wrong[:label].max(), wrong[label + 1 :].max()))
                )
                wrong[label] -= 1
                norms.append(math.sqrt(float((wrong**2).sum())))
        assert found["error_norm"][row] == pytest.approx(np.mean(norms), rel=1e-3, abs=1e-5)
        assert found["margin"][row] == pytest.approx(np.mean(margins), rel=1e-3, abs=1e-5)


@torch.no_grad()
def test_hidden_states_are_those_before_the_final_norm(out: Path, pool: Pool, model: Any) -> None:
    entropy, last = (read(out, pool, "hidden_states", name) for name in ("entropy", "last"))
    tau = read(out, pool, "hidden_states", "concentration")
    norm = model.model.language_model.norm
    model.model.language_model.norm = torch.nn.Identity()
    try:
        for row in written(pool):
            batch = inputs(pool, row)
            batch.pop("labels")
            states = model.model(**batch).last_hidden_state[0]  # (L, D)
            values = torch.linalg.svdvals(states.double())
            shares = values / values.sum()
            assert entropy[row] == pytest.approx(float(-(shares * shares.log()).sum()), rel=1e-3)
            assert tau[row] == pytest.approx(float(shares.max()), rel=1e-3)
            np.testing.assert_allclose(last[row], states[-1], rtol=1e-2, atol=1e-3)
    finally:
        model.model.language_model.norm = norm


@torch.no_grad()
def test_layer_features_are_means_of_attention_over_image_and_text(
    out: Path, pool: Pool, model: Any
) -> None:
    found = read(out, pool, "layer_features", "features")
    for row in written(pool)[:4]:
        batch = inputs(pool, row)
        batch.pop("labels")
        seen = attention_outputs(model, batch)
        shown = batch["input_ids"][0] == 3
        parts = []
        for chosen in (shown, ~shown):
            for states in seen:
                mean = states[chosen].mean(dim=0).tanh()
                parts.append(mean / mean.norm())
        expected = torch.cat(parts) / 2.0  # the root of twice two layers
        np.testing.assert_allclose(found[row], expected, atol=2e-3)


@torch.no_grad()
def test_clip_similarity_is_the_cosine_of_each_image_and_its_own_text(
    out: Path, pool: Pool
) -> None:
    found = read(out, pool, "clip_similarity", "similarity")
    model = load_image_text("quickstart-matcher", "float32")
    processor, reader = load_readers("quickstart-matcher")
    for row in written(pool)[:4]:
        turns = pool.sample(row).turns
        text = " ".join(f"{turn.question} {turn.answer}" for turn in turns)
        pixels = processor(images=open_rgb(pool.image_path(row)), return_tensors="pt")
        one = image_vectors(model, pixels["pixel_values"])
        other = text_vectors(model, reader([text]))
        assert found[row] == pytest.approx(float((one * other).sum()), abs=1e-4)


@torch.no_grad()
def test_visual_tokens_are_the_fewest_that_hold_the_attention_of_the_text(
    out: Path, pool: Pool
) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT, attn_implementation="eager")
    found = read(out, pool, "visual_tokens", "features")
    for row in written(pool)[:4]:
        batch = inputs(pool, row)
        batch.pop("labels")
        given = model.model(**batch, output_attentions=True, output_hidden_states=True)
        attention, states = given.attentions[0][0].mean(dim=0), given.hidden_states[1][0]
        shown = (batch["input_ids"][0] == 3).tolist()
        mass = {
            v: sum(float(attention[t, v]) for t in range(len(shown)) if not shown[t])
            for v in range(len(shown))
            if shown[v]
        }
        chosen: list[int] = []
        for token in sorted(mass, key=lambda v: -mass[v]):
            if sum(mass[v] for v in chosen) < 0.9 * sum(mass.values()):
                chosen.append(token)
        np.testing.assert_allclose(found[row], states[chosen].mean(dim=0), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_answer_validity_is_the_chance_of_yes_among_yes_and_no(
    out: Path, pool: Pool, model: Any
) -> None:
    made = encoder()
    tokenizer = made.processor.tokenizer

    def first(text: str) -> int:
        return int(tokenizer(text, add_special_tokens=False)["input_ids"][0])

    yes = {first(text) for text in ("Yes", " Yes", "yes", " yes")}
    no = {first(text) for text in ("No", " No", "no", " no")}
    assert yes - no and no - yes
    for side in ("with_question", "without_question"):
        found = read(out, pool, "answer_validity", side)
        for row in written(pool)[:4]:
            turns = pool.sample(row).turns
            question = " ".join(turn.question for turn in turns) if side == "with_question" else ""
            text = validity_question(question, " ".join(turn.answer for turn in turns))
            batch = made.prompts([((), text, open_rgb(pool.image_path(row)))])
            chances = model(**batch).logits[0, -1].softmax(dim=-1)
            one, other = (sum(float(chances[i]) for i in ids) for ids in (yes - no, no - yes))
            assert found[row] == pytest.approx(one / (one + other), rel=1e-3)


def attention_outputs(model: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What self-attention of the first two layers returns for one sample, (L, D) each."""
    seen: list[torch.Tensor] = []
    hooks = [
        layer.self_attn.register_forward_hook(lambda *given: seen.append(given[-1][0][0]))
        for layer in model.model.language_model.layers[:2]
    ]
    model.model(**batch)
    for hook in hooks:
        hook.remove()
    return seen


def same_files(one: Path, other: Path) -> None:
    for signal in SIGNALS:
        files = sorted((one / "signals" / signal).glob("*.npy"))
        assert files
        for file in files:
            np.testing.assert_array_equal(
                np.load(file), np.load(other / "signals" / signal / file.name)
            )


def test_pass_that_was_killed_continues_to_the_same_files(
    out: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every signal loses its second block at the first start, and its first is kept."""
    again, write = tmp_path / "run", BlockWriter.write_on_batch_end
    written: list[str] = []

    def killed(self: BlockWriter, *args: Any) -> None:
        signal = self.folder.name.split("-")[0]
        if written.count(signal) == 1:
            written.append(signal)
            raise RuntimeError("killed")
        written.append(signal)
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(BlockWriter, "write_on_batch_end", killed)
        for _ in SIGNALS:
            with pytest.raises(RuntimeError, match="killed"):
                main(["--debug", *arguments(few, again)])
    kept = list((again / "work").glob("*/block-*.npz"))
    assert kept
    assert main(arguments(few, again)) == 0
    same_files(out, again)


def test_two_processes_give_the_files_of_one(out: Path, few: Path, tmp_path: Path) -> None:
    """Signals are made again, and the probe; a reference fit on two processes rounds otherwise."""
    two = tmp_path / "two"
    shutil.copytree(out, two, ignore=shutil.ignore_patterns("signals", "warm_up"))
    run_on_two(arguments(few, two, "--trainer.strategy", "ddp"), tmp_path / "log")
    same_files(out, two)


def test_pool_without_any_instruction_names_a_selector_that_needs_none(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{**r, "conversations": []} for r in json.loads((few / "train.json").read_text())]
    (tmp_path / "none.json").write_text(json.dumps(records))
    given = fit_arguments(few, tmp_path / "run", "--selector", "EL2N")[1:]
    given[given.index("--data.annotations") + 1] = str(tmp_path / "none.json")
    assert main(["select", *given, "--data.image_root", str(few)]) == 2
    assert "none of the 36 samples has one: take a selector" in capsys.readouterr().err


def test_selection_reports_samples_without_a_score_and_correlation_with_length(
    out: Path, few: Path, pool: Pool, tmp_path: Path
) -> None:
    """The signals are there: only the selection is made."""
    run = shutil.copytree(out, tmp_path / "run")
    given = fit_arguments(few, run, "--selector", "DataTailor")
    assert main(["select", *given[1:], "--data.block_size", "16"]) == 0
    stage = json.loads((run / "run.json").read_text())["stages"]["selection"]
    assert stage["warnings"][0].startswith(
        "4 of 36 samples have no score (4 without an instruction); none is selected"
    )
    assert set(stage["length_correlation"]) >= {"informativeness", "score"}
    manifest = json.loads((run / "selection" / "manifest.json").read_text())
    chosen = {sample["uid"] for sample in manifest["samples"]}
    assert len(chosen) == 9 and not chosen & set(pool.uid[~pool.has_instruction])
    assert manifest["method"]["class_path"].endswith("DataTailor")
    same_files(out, run)


@torch.no_grad()
def test_datatailor_reads_the_hidden_states_of_the_reference_model(
    few: Path, tmp_path: Path
) -> None:
    run, records = tmp_path / "run", json.loads((few / "train.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps([r for r in records if r["conversations"]]))
    given = fit_arguments(few, run, "--selector", "DataTailor", "--selector.probe_at", "reference")
    given[given.index("--data.annotations") + 1] = str(tmp_path / "train.json")
    given += ["--data.image_root", str(few), "--data.budget", "16"]
    assert main(["select", *given[1:]]) == 0
    pool = load_pool(run, few)
    tuned: Any = PeftModel.from_pretrained(
        LlavaForConditionalGeneration.from_pretrained(CHECKPOINT), run / "models" / "reference"
    ).merge_and_unload()
    tuned.eval().model.language_model.norm = torch.nn.Identity()
    entropy = read(run, pool, "reference_hidden_states", "entropy")
    for row in written(pool):
        batch = inputs(pool, row)
        batch.pop("labels")
        values = torch.linalg.svdvals(tuned.model(**batch).last_hidden_state[0].double())
        shares = values / values.sum()
        assert entropy[row] == pytest.approx(float(-(shares * shares.log()).sum()), rel=1e-3)
    selected = pq.read_table(run / "selection" / "selection.parquet")
    assert sum(selected["selected"].to_pylist()) == 16
