"""What a run says that it cost is what it cost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.main import main
from presel_lightning.cli.training import recipe_from
from presel_lightning.eval.report.run_folder import read_run
from presel_lightning.run.files import read_json, write_json
from presel_lightning.run.ledger import Ledger
from presel_lightning.run.lock import leave
from presel_lightning.tasks import FineTune
from tests.conftest import benchmark_arguments, fit_arguments


@pytest.fixture
def without_final(finished: Path, tmp_path: Path) -> Path:
    """A run folder that has all but its final model and what follows."""
    out = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(out / "models" / "final")
    Ledger(out / "run.json").record("final", status="running")
    return out


def test_resumed_fit_costs_what_all_its_starts_cost(
    finished: Path, without_final: Path, pool_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended in its second step, and said to have run on two GPUs for half an hour till then."""
    out, step = without_final, FineTune.training_step
    more = ["--checkpoint_every", "1", "--baselines", "--price_per_gpu_hour", "3"]

    def dies(module: FineTune, *args: Any) -> Any:
        if module.global_step == 1:
            raise RuntimeError("killed")
        return step(module, *args)

    with monkeypatch.context() as patch:
        patch.setattr(FineTune, "training_step", dies)
        assert main(fit_arguments(pool_folder, out, *more)) == 1  # killed
    (journal,) = (out / "work" / "parts").glob("final-*.json")
    (part,) = read_json(journal)
    assert 0 < part["fit_seconds"] < part["seconds"]
    gpus = {"device": "cuda", "devices": 2, "seconds": 1800.0, "fit_seconds": 1700.0}
    write_json(journal, [{**part, **gpus}])
    assert main(fit_arguments(pool_folder, out, *more)) == 0
    final, known = (Ledger(folder / "run.json").stage("final") for folder in (out, finished))
    assert final["steps"] == known["steps"] and len(final["parts"]) == 2
    for name in ("seconds", "fit_seconds"):
        assert final[name] == pytest.approx(sum(part[name] for part in final["parts"]))
        assert final[name] > gpus[name]
    arm = next(arm for arm in read_run(out)["arms"] if arm["arm"] == "final")
    assert arm["seconds"] == final["fit_seconds"]
    assert arm["gpu_hours"] == pytest.approx(1.0) and arm["cost"]["gpu_hours"] == pytest.approx(3.0)


def test_untrained_is_scored_by_the_devices_that_are_at_work(
    pool_folder: Path, tmp_path: Path
) -> None:
    """As in `compare`, which is one process, however many devices each of its fits takes."""
    more = [
        *benchmark_arguments(pool_folder),
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp",
    ]
    words, name = find_configs(fit_arguments(pool_folder, tmp_path, *more)[1:])
    recipe = recipe_from("check", words, name)[0]
    recipe.scoring.score_untrained()
    leave()
    assert json.loads((tmp_path / "benchmark.json").read_text())["untrained"]["tiny"] >= 0
    assert Ledger(tmp_path / "run.json").stage("benchmarks")["devices"] == 1
