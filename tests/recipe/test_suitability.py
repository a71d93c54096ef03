"""Shipped models on other images than the quickstart's: `select`, `check` and the report warn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.quickstart import CHECKPOINT, ENCODER
from presel_lightning.recipe.suitability import unsuited

SHARE, LOSSES = "20.7 % are of the same folder, by chance 17.1 %", "is the quickstart's LLaVA"


def arguments(command: str, pool: Path, out: Path) -> list[str]:
    given = ["--data.annotations", str(pool), "--selector", "KCenter", "--out", str(out)]
    given += ["--stages.features.model", "{checkpoint: quickstart-encoder, dtype: float32}"]
    return [command, "--config", "photos.yaml", *given, "--data.num_workers", "0"]


def test_select_check_and_report_warn_of_shipped_models_on_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, out = tmp_path / "pool", tmp_path / "run"
    rng = np.random.default_rng(0)
    for number in range(12):
        place = pool / f"folder{number % 2}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place)
    assert main(arguments("select", pool, out)) == 3  # nothing has an instruction yet
    said = capsys.readouterr().out
    assert said.count(SHARE) == 1 and LOSSES not in said  # no loss and no fit in this `select`
    assert main(["report", "--run", str(out)]) == 0
    assert SHARE in (out / "report/index.html").read_text()
    assert main(arguments("check", pool, out)) == 0
    said = capsys.readouterr().out
    assert SHARE in said and LOSSES in said
    choose = ["--stages.features.model", "{checkpoint: auto}"]
    assert main([*arguments("check", pool, out), *choose]) == 0
    said = capsys.readouterr().out
    assert "features are those of EfficientNet-lite0" in said and SHARE not in said


def test_fit_on_the_quickstarts_own_images_does_not_warn(finished: Path) -> None:
    """Generated with other sizes: the names of the images are the generator's."""
    for name in ("run.json", "report/report.json"):
        notices = json.loads((finished / name).read_text())["notices"]
        assert not any(SHARE in notice or LOSSES in notice for notice in notices)
        assert [notice for notice in notices if "caption" in notice]  # 1 of 9 reference samples


def test_shipped_models_are_recognised_by_folder_and_in_what_was_tuned_from_them(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    own = str(tmp_path / "own")
    assert len(unsuited(["a/cat.jpg"], str(ENCODER), [str(CHECKPOINT)])) == 2
    assert LOSSES in unsuited(["a/cat.jpg"], None, [str(finished / "models/final")])[0]
    assert unsuited(["a/cat.jpg"], own, [own]) == []
    drawn = ["images/train-colour-0001.png", "x/test-ocr-0100.png"]
    assert unsuited(drawn, "quickstart-encoder", ["quickstart"]) == []
    assert len(unsuited([*drawn, "cat.png"], "quickstart-encoder", ["quickstart"])) == 2
