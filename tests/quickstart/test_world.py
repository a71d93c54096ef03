from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presel_lightning import quickstart
from presel_lightning.errors import UserError
from presel_lightning.quickstart.kinds import KINDS, SIZES
from presel_lightning.quickstart.scenes import BACKGROUNDS, DIGITS, SHAPES, Scene, Thing, render
from presel_lightning.quickstart.world import MAKERS, TEST_PER_TASK, caption, generate

SMALL = {"colour": 4, "ocr": 3, "caption": 2}


def _bytes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_generate_depends_only_on_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(tmp_path / name, seed=seed, sizes=SMALL, test_per_task=2)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert _bytes(tmp_path / "a")["train.json"] != _bytes(tmp_path / "c")["train.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_quickstart_pool_has_valid_records_and_unique_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path))
    folder = quickstart.pool()
    assert folder.parent == tmp_path
    train = json.loads((folder / "train.json").read_text())
    test = json.loads((folder / "test.json").read_text())
    assert Counter(record["task"] for record in train) == SIZES
    assert Counter(record["task"] for record in test) == dict.fromkeys(SIZES, TEST_PER_TASK)
    assert len({record["id"] for record in train + test}) == len(train) + len(test)
    for record in train + test:
        with Image.open(folder / record["image"]) as image:
            assert image.size == (48, 48)
            image.load()
        turns = record["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert turns[0]["value"].startswith("<image>\n")
        assert all(turn["value"].strip() and "{" not in turn["value"] for turn in turns)
        assert "".join(turn["value"] for turn in turns).count("<image>") == 1
    assert all(len(record["conversations"]) == 2 for record in test)
    pictures = [(folder / record["image"]).read_bytes() for record in train + test]
    assert len(set(pictures)) == len(pictures)


def test_quickstart_pool_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path))
    folder = quickstart.pool()
    before = (folder / "train.json").stat().st_mtime_ns
    assert quickstart.pool() == folder
    assert (folder / "train.json").stat().st_mtime_ns == before


def test_quickstart_pool_unwritable_cache_falls_back_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PRESEL_LIGHTNING_CACHE", str(tmp_path / "file"))
    folder = quickstart.pool(tmp_path / "run")
    assert folder.parent == tmp_path / "run"
    assert (folder / "test.json").exists()
    with pytest.raises(UserError, match="PRESEL_LIGHTNING_CACHE"):
        quickstart.pool()


def test_generate_non_empty_folder_or_unknown_task_raises(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        generate(tmp_path, sizes=SMALL)
    with pytest.raises(UserError, match="juggling"):
        generate(tmp_path / "new", sizes={"juggling": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


@pytest.mark.parametrize("task", sorted(MAKERS))
def test_generated_answers_match_the_scene(task: str) -> None:
    """Each answer is read again off the scene by other means than the maker's."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene, turns = MAKERS[task](rng)
        told = caption(scene)
        for question, answer in turns:
            words = question.lower().rstrip("?.").split()
            if task == "ocr":
                assert answer == "".join(c for c in told if c.isdigit())
            elif task == "background":
                assert f"on a {answer} background" in told
            elif task == "count":
                kinds = [thing.kind + "s" for thing in scene.things]
                kinds = [kind.replace("crosss", "crosses") for kind in kinds]
                named = [w for w in words if w in kinds or w in [t.colour for t in scene.things]]
                hits = [
                    all(w in (kind, thing.colour) for w in named)
                    for kind, thing in zip(kinds, scene.things, strict=True)
                ]
                assert answer == ("zero", "one", "two", "three", "four", "five", "six")[sum(hits)]
            elif task == "caption":
                assert all(f"{thing.colour} {thing.kind}" in answer for thing in scene.things)
            else:
                assert answer in told


def test_render_shapes_and_backgrounds_are_distinct() -> None:
    def paint(background: str, kind: str) -> np.ndarray:
        scene = Scene(background, (Thing(4, kind, "blue"),))
        return render(scene, np.random.default_rng(1)).astype(float)

    pictures = [paint("plain", kind) for kind in SHAPES + DIGITS]
    pictures += [paint(name, "circle") for name in BACKGROUNDS[1:]]
    for index, one in enumerate(pictures):
        for other in pictures[:index]:
            assert abs(one - other).mean() > 0.2


def test_importing_quickstart_does_not_import_torch() -> None:
    code = "import sys, presel_lightning.quickstart as q; q._generator_hash(); "
    code += "from presel_lightning.quickstart import world; assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(quickstart.__file__).parents[2]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_generate_pool_kinds_differ_only_in_training_data(kind: str, tmp_path: Path) -> None:
    what = KINDS[kind]
    assert sum(what.sizes.values()) == 1500
    small = {task: max(4, n // 50) for task, n in what.sizes.items()}
    generate(tmp_path / "p", sizes=small, test_per_task=2, corrupt=what.corrupt, scenes=what.scenes)
    clean = tmp_path / "clean"
    generate(clean, sizes=small, test_per_task=2)
    test = (tmp_path / "p" / "test.json").read_bytes()
    assert test == (clean / "test.json").read_bytes()  # the same questions for all
    train = json.loads((tmp_path / "p" / "train.json").read_text())
    spoilt = [
        record
        for record in train
        if np.asarray(Image.open(tmp_path / "p" / record["image"])).std() > 65  # noise
    ]
    assert len(spoilt) == len(range(0, round(what.corrupt * len(train)), 2))


def test_generate_few_scenes_repeats_answers(tmp_path: Path) -> None:
    generate(tmp_path / "p", sizes={"ocr": 30}, test_per_task=1, scenes={"ocr": 2})
    train = json.loads((tmp_path / "p" / "train.json").read_text())
    assert len({record["conversations"][1]["value"] for record in train}) <= 2


def test_quickstart_pool_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"quickstart:nope is unknown; choose of quickstart:equal"):
        quickstart.pool(name="quickstart:nope")
