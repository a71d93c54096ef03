"""Gradients at several checkpoints of the reference fit: values, rates, limits, kills, processes."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, load_pool
from presel_lightning.functional.adam_update import adam_update
from presel_lightning.loading.datasets import WholeSet
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models.llava_processor import load_processor
from presel_lightning.quickstart import CHECKPOINT
from presel_lightning.recipe.passes import GradientsPass, HeadGradientsPass
from presel_lightning.recipe.passes.base import Throughput, Work
from presel_lightning.signals import Gradients, Signals
from presel_lightning.tasks.block_writer import BlockWriter
from tests.conftest import fit_arguments
from tests.ranks import run_on_two
from tests.recipe.passes.few import first_records
from tests.recipe.passes.test_gradients import WIDTH, literal, sketched

FIVE_STEPS = ["--trainer.max_epochs", "5", "--warmup_checkpoints", "3", "--gradient_update", "adam"]


def arguments(few: Path, out: Path, *more: str) -> list[str]:
    """Gradients alone, at three checkpoints of a reference fit of five steps."""
    given = fit_arguments(few, out, "--selector", "Random", "--data.always_reference", "true")
    sizes = ["--data.reference", "4", "--data.budget", "8", "--data.block_size", "8"]
    small = ["--gradient_width", str(WIDTH), "--model.lora.r", "4"]
    return ["prepare", *given[1:], *sizes, *small, "--signals", "gradients", *FIVE_STEPS, *more]


@pytest.fixture(scope="module")
def few(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve records of the pool, three of each task."""
    folder = tmp_path_factory.mktemp("few") / "pool"
    kept = first_records(pool_folder, folder, 3)
    (folder / "train.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture(scope="module")
def out(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm_up") / "run"
    assert main(arguments(few, folder)) == 0
    return folder


def alone(model_folder: Path, pool: Pool, row: int) -> dict[str, torch.Tensor]:
    """Gradients of one sample at a checkpoint, by autograd."""
    base = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, model_folder).eval()
    samples = WholeSet(
        pool, np.array([row]), encoder_of("vicuna_bare", load_processor("quickstart"), 2048)
    )
    batch = samples.collate([samples[0, 1.0]])
    batch.pop("first")
    found = literal(model, batch)
    found.pop("loss")
    return found


@pytest.mark.parametrize("number", [1, 2])
def test_columns_of_a_checkpoint_are_gradients_of_its_model_by_its_moments(
    number: int, out: Path, few: Path
) -> None:
    """Steps of Adam of the pool; plain gradients of the reference split."""
    pool, signal = load_pool(out, few), Signals(out / "signals").of(Gradients)
    folder = out / "models" / "reference" / "warm_up" / str(number)
    moments = load_file(folder / "moments.safetensors")

    def found(name: str, row: int) -> np.ndarray:
        direction, length = (signal.column(f"warm_up_{number}_{name}{c}") for c in ("direction", "length"))  # fmt: skip
        return np.asarray(direction[row].astype(float) * length[row])

    records = json.loads((out / "reference.json").read_text())
    row = int(np.sort(pool.rows([record["uid"] for record in records]))[2])
    plain = alone(folder, pool, row)
    updated = {
        name: adam_update(g, moments[f"model.{name}.first"], moments[f"model.{name}.second"])
        for name, g in plain.items()
    }
    for name, place, gradients in (("", row, updated), ("validation_", 2, plain)):
        expected = sketched(gradients, WIDTH)
        np.testing.assert_allclose(found(name, place), expected, atol=5e-3 * float(expected.norm()))
    assert signal.column("validation_direction").shape == (4, WIDTH)


def test_checkpoints_differ_and_the_last_is_the_reference_model(out: Path) -> None:
    signal, model = Signals(out / "signals").of(Gradients), out / "models" / "reference"
    columns = [np.asarray(signal.column(signal.at(n, "direction"))) for n in (1, 2, 0)]
    assert all((a != b).any() for a, b in pairwise(columns))
    assert sorted(path.name for path in (model / "warm_up").iterdir()) == ["1", "2"]
    weights = [load_file(p / "adapter_model.safetensors") for p in (model / "warm_up" / "2", model)]
    assert any((weights[0][name] != value).any() for name, value in weights[1].items())


def test_rates_are_the_means_of_the_schedule_over_the_parts(out: Path) -> None:
    """Steps 1 and 2, 3 and 4, 5 of five: one of warm-up at rate 0, then a cosine."""
    schedule = [0.0, *(2e-3 * (1 + cos(pi * step / 4)) / 2 for step in range(4))]
    expected = [np.mean(schedule[:2]), np.mean(schedule[2:4]), schedule[4]]
    assert Signals(out / "signals").of(Gradients).rates() == pytest.approx(expected)


def same_files(one: Path, other: Path) -> None:
    """Columns, and the models that they were taken at."""
    kinds = ("signals/gradients/*.npy", "models/reference/warm_up/*/*.safetensors")
    for kind, count in zip(kinds, (6 + 2 + 1 + 2 * 4, 4), strict=True):
        files = sorted(one.glob(kind))
        assert len(files) == count, [file.name for file in files]
        assert [f.name for f in files] == [f.name for f in sorted(other.glob(kind))]
        for file in files:
            assert file.read_bytes() == (other / file.relative_to(one)).read_bytes(), file


def test_fit_cut_by_a_limit_and_killed_passes_continue_to_the_same_files(
    out: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before the end of the first part, so that gradients are taken at one checkpoint.

    A pass loses its second block, or its only one.
    """
    again, write = tmp_path / "run", BlockWriter.write_on_batch_end
    limit = ["--stages.reference.trainer", "{max_time: {milliseconds: 1}}"]
    assert main(arguments(few, again, *limit)) == 0
    signal = Signals(again / "signals").of(Gradients)
    assert len(signal.rates()) == 1 and not list(signal.path.glob("warm_up_*"))
    places = ["gradients-checkpoint1-", "gradients-validation-"]  # both at the first checkpoint

    def killed(self: BlockWriter, *args: Any) -> None:
        last = len(self.pending()) == 1
        if places and places[0] in self.folder.name and last:
            places.pop(0)
            raise RuntimeError("killed")
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(BlockWriter, "write_on_batch_end", killed)
        for _ in range(len(places)):
            with pytest.raises(RuntimeError, match="killed"):
                main(["--debug", *arguments(few, again)])
        assert main(arguments(few, again)) == 0
    same_files(out, again)
    assert not list((again / "work").glob("gradients-*"))


def test_two_processes_give_the_columns_of_one(out: Path, few: Path, tmp_path: Path) -> None:
    """Gradients are made again; a reference fit on two processes rounds otherwise."""
    two = tmp_path / "two"
    shutil.copytree(out, two, ignore=shutil.ignore_patterns("signals"))
    run_on_two(arguments(few, two, "--trainer.strategy", "ddp"), tmp_path / "log")
    same_files(out, two)


def test_less_reads_all_checkpoints_and_other_selectors_the_last(
    out: Path, few: Path, tmp_path: Path
) -> None:
    """By the command line, in a copy of the run."""
    run = tmp_path / "run"
    shutil.copytree(out, run)
    scores = {}
    for name in ("Less", "DataInf"):
        given = ["select", *arguments(few, run)[1:], "--selector", name]
        del given[given.index("--signals") : given.index("--signals") + 2]
        assert main(given) == 0
        stages = json.loads((run / "run.json").read_text())["stages"]
        assert stages["gradients"]["fingerprint"] == fingerprint_of(out)
        scores[name] = len(json.loads((run / "selection" / "selected.json").read_text()))
    assert scores == {"Less": 8, "DataInf": 8}


def fingerprint_of(out: Path) -> str:
    stages = json.loads((out / "run.json").read_text())["stages"]
    return str(stages["gradients"]["fingerprint"])


@pytest.mark.parametrize("command", ["check", "select"])
def test_more_checkpoints_than_steps_are_refused(
    command: str, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = fit_arguments(few, tmp_path / "run", "--data.reference", "4", "--data.budget", "8")
    more = [*FIVE_STEPS, "--warmup_checkpoints", "6"]
    assert main([command, *words[1:], *more]) == 2
    assert "warmup_checkpoints is 6, and the fit of the reference model has 5 steps" in capsys.readouterr().err  # fmt: skip
    assert main(["check", *words[1:], *FIVE_STEPS, "--warmup_checkpoints", "5"]) == 0


def test_estimate_and_disk_count_every_checkpoint() -> None:
    work = Work(10, 0, {"final": 10}, 100, gradient_width=8, warmup_checkpoints=4)
    one = Work(**{**vars(work), "warmup_checkpoints": 1})
    speed = Throughput(training=2.0)
    assert GradientsPass.estimate(work, speed) == {"gradients": (400 + 10) / 2}
    assert GradientsPass.disk(work, 0, 0) == 4 * GradientsPass.disk(one, 0, 0) == 4 * 3200
    assert HeadGradientsPass.estimate(work, speed) == HeadGradientsPass.estimate(one, speed)
    assert HeadGradientsPass.disk(work, 0, 0) == HeadGradientsPass.disk(one, 0, 0)
