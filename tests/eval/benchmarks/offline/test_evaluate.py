"""`evaluate` from the command line, with the shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonargparse import Namespace

from presel_lightning.cli.main import main
from presel_lightning.cli.training import folder_of


def evaluate(benchmarks: list[dict[str, object]], out: Path) -> int:
    arguments = ["--config", "quickstart.yaml", "--checkpoint", "quickstart", "--out", str(out)]
    return main(["evaluate", *arguments, "--benchmarks", json.dumps(benchmarks)])


def test_evaluate_accepts_short_and_full_class_names(
    pope: Path, mmbench: Path, gqa: Path, tmp_path: Path
) -> None:
    specs: list[dict[str, object]] = [
        {
            "class_path": "presel_lightning.eval.benchmarks.offline.POPE",
            "init_args": {"questions": str(pope), "max_new_tokens": 4},
        },
        {
            "class_path": "MMBench",
            "init_args": {"questions": str(mmbench), "max_new_tokens": 4},
        },
        {
            "class_path": "GQA",
            "init_args": {
                "questions": str(gqa),
                "image_root": str(gqa.parent / "images"),
                "max_new_tokens": 4,
            },
        },
    ]
    assert evaluate(specs, tmp_path / "run") == 0
    path = tmp_path / "run" / "work" / "scores" / "evaluate-quickstart.json"
    found = json.loads(path.read_text())["benchmarks"]
    assert {name: part["n"] for name, part in found.items()} == {"POPE": 12, "MMB-en": 2, "GQA": 3}
    assert found["POPE"]["score"] == pytest.approx(
        sum(found["POPE"]["tasks"][f"{c} F1"] for c in ("random", "popular", "adversarial")) / 3,
        abs=1e-3,
    )


def test_evaluate_missing_benchmark_file_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing: dict[str, object] = {
        "class_path": "MME",
        "init_args": {"questions": str(tmp_path / "none"), "name": "MME"},
    }
    assert evaluate([missing], tmp_path / "run") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "benchmark MME" in told and "with a folder for each of its 14 subtasks" in told


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("runs/quickstart/models/final", "evaluate-quickstart-final"),
        ("runs/quickstart/models/full/", "evaluate-quickstart-full"),
        ("tuned", "evaluate-tuned"),
        ("liuhaotian/llava-v1.5-7b", "evaluate-llava-v1.5-7b"),
    ],
)
def test_evaluate_folder_is_named_after_the_checkpoint(
    checkpoint: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("runs/quickstart/models/final", "runs/quickstart/models/full", "tuned"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert folder_of("evaluate", Namespace(checkpoint=checkpoint), "bench") == name
    monkeypatch.chdir(tmp_path / "runs" / "quickstart")
    inside = Namespace(checkpoint="models/final")
    assert folder_of("evaluate", inside, "bench") == "evaluate-quickstart-final"
