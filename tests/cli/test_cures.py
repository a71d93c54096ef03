"""Refusals of a command as a new user gives it: one line with the key and what mends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from presel_lightning.cli.main import main

RULES = '[{"task": "a", "image": "("}]'


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            {"data.annotations": "nowhere.json"},
            ["data.annotations nowhere.json", "correct the path, which starts from"],
        ),
        (
            {"data.image_root": "nowhere"},
            ["data.image_root nowhere", "set it to the folder that image paths start from"],
        ),
        ({"data.task_rules": RULES}, ["data.task_rules", "correct this regular expression"]),
        (
            {"selector": "FromFile", "selector.init_args.path": "nowhere.txt"},
            ["selector.init_args.path nowhere.txt", "give one uid a line"],
        ),
        (
            {"selector": "FromFile", "selector.init_args.path": "pool.json"},
            ["selector.init_args.path pool.json", "as in selected.json"],
        ),
        (
            {"selector": "FromFile", "selector.init_args.path": "broken.json"},
            ["selector.init_args.path broken.json", "give one uid a line"],
        ),
        (
            {"selector": "FromFile", "selector.init_args.path": "foreign.txt"},
            ["is not in the pool", "data.annotations, data.image_root and data.task_key"],
        ),
        ({"data.budget": "15%"}, ["data.budget", "such as 0.15"]),
        ({"trainer.plugins": "{a: 1}"}, ["trainer.plugins: \"{'a': 1}\"", "class_path with"]),
        ({"trainer.callbacks": "[1]"}, ["trainer.callbacks: '[1]'", "class_path with init_args"]),
        (
            {"selector": "PreSel", "selector.init_args.within": "1.5"},
            ["selector.init_args.within '1.5'", "choose from centrality"],
        ),
    ],
)
def test_refusal_names_the_key_and_the_cure(
    options: dict[str, str],
    named: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Image.new("RGB", (8, 8)).save(f"{name}.png")
    records = [{"id": name, "image": f"{name}.png", "task": "t"} for name in "ab"]
    Path("photos.json").write_text(json.dumps(records))
    Path("pool.json").write_text(json.dumps([{"id": "c", "image": "c.png"}]))
    Path("broken.json").write_text('[{"id": "a"')
    Path("foreign.txt").write_text("0" * 32)
    given = {"data.annotations": "photos.json", "selector": "SizeBalanced", "out": "run"} | options
    words = [word for key, value in given.items() for word in (f"--{key}", value)]
    assert main(["select", "--config", "photos.yaml", *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert all(part in error for part in named), error
