"""Text-only records in the fits of a run, through the command line and one by one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file
from torch.testing import assert_close

from presel_lightning.callbacks import StepCheckpoint
from presel_lightning.cli.main import main
from presel_lightning.data.pool import load_pool
from presel_lightning.data.texts import Texts
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models import LoRA
from presel_lightning.tasks import FineTune
from tests.conftest import N_POOL, fit_arguments
from tests.fits import Kill, Killed, quiet_trainer
from tests.ranks import run_on_two

N_TEXTS, BUDGET, BATCH = 19, 33, 16
"""Two batches of images, one of texts, and one of a single image and three texts."""
WEIGHTS = "models/final/adapter_model.safetensors"
FAULTY = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": ""}]


def write(pool_folder: Path, path: Path, answer: str = "it is") -> Path:
    """The small pool with text-only records among its own, one of them faulty."""
    records = json.loads((pool_folder / "train.json").read_text())
    for number in range(N_TEXTS):
        turns = [f"is {number} a number?", f"yes, {answer} {number} indeed"]
        roles = ("human", "gpt")
        said = [{"from": role, "value": text} for role, text in zip(roles, turns, strict=True)]
        records.append({"id": f"text{number}", "conversations": said})
    records.append({"id": "faulty", "conversations": FAULTY})
    random.Random(0).shuffle(records)
    path.write_text(json.dumps(records))
    return path


def command(pool_folder: Path, mixed: Path, out: Path, *more: str) -> list[str]:
    given = ["--data.annotations", str(mixed), "--data.image_root", str(pool_folder)]
    given += ["--data.budget", str(BUDGET), "--selector", "Random", "--benchmarks", "[]"]
    return fit_arguments(pool_folder, out, *given, "--baselines", *more)


ON = ["--data.text_only", "true"]


def stages(out: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((out / "run.json").read_text())["stages"]
    return found


@pytest.fixture(scope="module")
def mixed(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(pool_folder, tmp_path_factory.mktemp("texts") / "train.json")


@pytest.fixture(scope="module")
def fitted_run(pool_folder: Path, mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was done without them first."""
    out = tmp_path_factory.mktemp("fitted") / "run"
    assert main(command(pool_folder, mixed, out)) == 0
    (out / WEIGHTS).rename(out / "without.safetensors")
    (out / "run.json").rename(out / "without.json")
    (out / "run.json").write_text((out / "without.json").read_text())
    assert main(command(pool_folder, mixed, out, *ON)) == 0
    return out


def test_text_only_records_are_in_the_final_fit(fitted_run: Path) -> None:
    before = json.loads((fitted_run / "without.json").read_text())["stages"]
    after = stages(fitted_run)
    for found in (before, after):
        assert found["pool"]["text_only"] == N_TEXTS and found["pool"]["samples"] == N_POOL
        assert found["pool"]["by_problem"] == {"empty_answer": 1}
        assert found["final"]["samples"] == found["final"]["instructions"] == BUDGET
    assert before["final"]["steps"] == 3 and "text_only" not in before["final"]
    assert after["final"]["steps"] == 4 and after["final"]["text_only"] == N_TEXTS
    assert "faulty,,,empty_answer" in (fitted_run / "problems.csv").read_text()
    # the pool is read again; the selection is unchanged and not recomputed
    assert {name for name in after if after[name] != before[name]} == {
        "pool",
        "final",
        "benchmarks",
    }
    one, two = load_file(fitted_run / "without.safetensors"), load_file(fitted_run / WEIGHTS)
    assert any(not torch.equal(two[name], value) for name, value in one.items())
    assert "and every arm is trained on all of them" in (
        fitted_run / "report" / "index.html"
    ).read_text(encoding="utf-8")
    chosen = json.loads((fitted_run / "selection" / "selected.json").read_text())
    assert len(chosen) == BUDGET and all("image" in record for record in chosen)


def test_text_only_changed_record_reruns_the_fit(
    fitted_run: Path, pool_folder: Path, mixed: Path, tmp_path: Path
) -> None:
    """And one that is only moved is not; other arms have them too."""
    out, brief = tmp_path / "run", [*ON, "--trainer.max_steps", "1"]
    assert main(command(pool_folder, mixed, out, *brief)) == 0
    known = stages(out)["final"]
    (tmp_path / "moved.json").write_text(json.dumps(json.loads(mixed.read_text())[::-1]))
    moved = command(pool_folder, tmp_path / "moved.json", out, *brief)
    assert main([*moved, "--baselines", "full"]) == 0
    assert stages(out)["final"] == known and stages(out)["full"]["text_only"] == N_TEXTS
    changed = write(pool_folder, tmp_path / "changed.json", answer="it was")
    assert main(command(pool_folder, changed, out, *brief)) == 0
    assert stages(out)["final"]["fingerprint"] != known["fingerprint"]


def test_text_only_records_are_not_in_the_reference_fit(
    pool_folder: Path, mixed: Path, tmp_path: Path
) -> None:
    arguments = command(pool_folder, mixed, tmp_path, *ON)
    arguments[arguments.index("Random")] = "PreSel"
    assert main(["select", *arguments[1:]]) == 0
    reference = stages(tmp_path)["reference"]
    assert reference["samples"] == 9 and "text_only" not in reference
    assert reference["steps"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_text_only_fit_on_two_processes_matches_one(
    strategy: str,
    fitted_run: Path,
    pool_folder: Path,
    mixed: Path,
    tmp_path: Path,
) -> None:
    """With a batch of texts on both, and one in which only the first sees an image."""
    out, more = tmp_path / "run", ["--trainer.strategy", strategy, "--data.micro_batch_size", "3"]
    run_on_two(command(pool_folder, mixed, out, *ON, *more), tmp_path / "log")
    assert stages(out)["final"]["steps"] == 4
    found, known = load_file(out / WEIGHTS), load_file(fitted_run / WEIGHTS)
    assert found.keys() == known.keys()
    for key, value in known.items():
        assert_close(found[key], value, rtol=1e-2, atol=1e-4)


# ---------------------------------------------------------------- one fit, in this process


@pytest.fixture(scope="module")
def data(fitted_run: Path, pool_folder: Path) -> SelectionDataModule:
    made = SelectionDataModule("unused", template="vicuna_bare", batch_size=6, num_workers=0)
    made.pool, made.texts = load_pool(fitted_run, pool_folder), Texts(fitted_run)
    return made


def fitted(
    data: SelectionDataModule,
    folder: Path,
    *callbacks: Callback,
    micro: int | None = None,
    path: Path | None = None,
) -> dict[str, torch.Tensor]:
    """What is trained, after an epoch of 8 images and 19 texts, 6 a step."""
    torch.manual_seed(0)
    tuned = FineTune(
        "quickstart", lora=LoRA(r=4, dropout=0.0), dtype="float32", lr=1e-3, warmup=0.0
    )
    tuned.configure_model()
    data.micro_batch_size = micro
    data.train_on(data.pool.uid[:8], tuned.processor, seed=0, texts=data.texts)
    trainer = quiet_trainer(*callbacks, folder=folder, passes=data.passes(1))
    trainer.fit(tuned, data, ckpt_path=path)
    assert trainer.global_step == 5
    return {name: p.detach() for name, p in tuned.named_parameters() if p.requires_grad}


def test_text_only_step_does_not_depend_on_micro_batch_size(
    data: SelectionDataModule, tmp_path: Path
) -> None:
    whole, cut = fitted(data, tmp_path), fitted(data, tmp_path, micro=2)
    for name, value in whole.items():
        assert_close(cut[name], value, rtol=2e-3, atol=2e-5)


def test_text_only_killed_fit_resumes_with_equal_weights(
    data: SelectionDataModule, tmp_path: Path
) -> None:
    whole = fitted(data, tmp_path, micro=4)
    saver = StepCheckpoint(every_n_train_steps=1)
    saver.dirpath = str(tmp_path / "kept")
    with pytest.raises(Killed):
        fitted(data, tmp_path, saver, Kill(), micro=4)
    (newest,) = [path for path in (tmp_path / "kept").iterdir() if "step=2" in path.name]
    continued = fitted(data, tmp_path, micro=4, path=newest)
    for name, value in whole.items():
        assert torch.equal(continued[name], value)
