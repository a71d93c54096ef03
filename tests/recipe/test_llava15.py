"""`llava15.yaml` as it is shipped, on tiny parts: nothing but paths is changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.quickstart import ENCODER
from tests.configs.test_llava665k_rules import SOURCES
from tests.models.tiny import write_parts
from tests.ranks import run_on_two

COPIES = 9


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that lead to made-up records of every source, their images, and tiny parts."""
    root = tmp_path_factory.mktemp("llava15")
    parts = write_parts(root / "parts")
    rng = np.random.default_rng(0)
    records = []
    for (sample_id, image), talk in [sample for found in SOURCES.values() for sample in found]:
        for copy in range(COPIES):
            name = Path(image)
            path = root / "images" / name.parent / f"{name.stem}{copy}{name.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(path)
            turns = [
                {"from": ("human", "gpt")[place % 2], "value": text}
                for place, text in enumerate(talk)
            ]
            relative = path.relative_to(root / "images").as_posix()
            records.append({"id": sample_id, "image": relative, "conversations": turns})
    (root / "mix.json").write_text(json.dumps(records))
    return [
        "--data.annotations",
        str(root / "mix.json"),
        "--data.image_root",
        str(root / "images"),
        "--model.components.language_model",
        parts.language_model,
        "--model.components.vision_tower",
        parts.vision_tower,
        "--model.components.projector",
        parts.projector,
        "--stages.features.model.checkpoint",
        str(ENCODER),
    ]


@pytest.mark.slow
def test_llava15_fit_on_two_processes_selects_as_one(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    one = ["fit", "--config", "llava15.yaml", *paths, "--trainer.accelerator", "cpu"]
    assert main([*one, "--out", str(tmp_path / "one")]) == 0
    run_on_two([*one, "--out", str(tmp_path / "two")], tmp_path / "log")
    first, second = (tmp_path / name / "selection" / "selected.json" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "two" / "models" / "final" / "adapter_model.safetensors").is_file()
    with (tmp_path / "one" / "selection" / "tasks.csv").open() as handle:
        assert len(handle.readlines()) == 1 + 10  # the paper's ten tasks


def test_llava15_check_exits_with_0(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    assert main(["check", "--config", "llava15.yaml", *paths, "--out", str(tmp_path / "run")]) == 0
