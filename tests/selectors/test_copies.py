"""A picture under several names is selected once, whatever the selector."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.selectors import FromFile, Random, Selector
from presel_lightning.selectors.copies import later_copies
from presel_lightning.signals import Features, HeldOutLoss, PairedLoss, Signals
from presel_lightning.signals.features import FeatureTable
from tests.selectors.pools import Pair, reference_losses, write_columns
from tests.selectors.test_contract import concrete

N_GONE, N_OWN = 16, 24
"""Names of one picture, and pictures of their own, in each of two tasks."""


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 64)).save(path)


def make_folder(root: Path) -> None:
    """Two tasks, and a picture under many names in each."""
    for number, task in enumerate(("a", "b")):
        for n in range(N_OWN):
            draw(root / task / f"own{n:02}.png", 1 + n + 1000 * number)
        for n in range(N_GONE):
            draw(root / task / f"gone{n:02}.png", 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies") / "photos"
    make_folder(folder)
    return folder


@pytest.fixture(scope="module")
def pair(root: Path) -> Pair:
    """The pool with every signal; copies have equal features."""
    out = root.parent / "out"
    build_pool(source(str(root)), out)
    pool = load_pool(out, root)
    data = SelectionDataModule(str(root), reference=8)
    data.pool = pool
    pool = pool.with_reference(data.split_reference(seed=0))
    signals = Signals(out / "signals")
    features = np.random.default_rng(0).normal(size=(len(pool), 16)).astype(np.float32)
    features[np.char.find(pool.image.astype(str), "gone") >= 0] = 1.0
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    table = FeatureTable(pool.uid, pool.uid, pool.image_digest, np.arange(len(pool)))
    signals.of(Features).write(table, features, np.full(len(pool), -1), {})
    losses = reference_losses(pool)
    signals.of(PairedLoss).write(losses)
    signals.of(HeldOutLoss).write(losses, losses[::2], losses[1::2])
    write_columns(signals, pool)
    return pool, signals


def select(pool: Pool, signals: Signals, selector: Selector, **options: Any) -> Any:
    data = SelectionDataModule("quickstart", **options)
    data.pool = pool
    return data.select(selector, signals, seed=0)


def shown(pool: Pool, uids: np.ndarray) -> list[tuple[str, bytes]]:
    """Task and picture of each of these and of the reference split."""
    rows = np.concatenate([pool.rows(uids), np.flatnonzero(pool.reference)])
    return [(pool.task[row], pool.image_digest[row].tobytes()) for row in rows]


@pytest.mark.parametrize(
    "kind", [k for k in concrete() if k is not FromFile], ids=lambda k: k.__name__
)
def test_no_selector_asks_for_a_picture_twice(kind: type[Selector], pair: Pair) -> None:
    pool, signals = pair
    found = select(pool, signals, kind(), budget=40)
    pictures = shown(pool, found.uids)
    assert len(pictures) == 40 == len(set(pictures))
    assert not any("data.copies" in line for line in found.meta.get("warnings", []))
    assert len(found.score) == len(found.rank) == len(found.cluster) == len(pool)
    copies = [row for row in range(len(pool)) if found.reason[row].startswith("a copy")]
    assert len(copies) == 2 * (N_GONE - 1) and np.isnan(found.score[copies]).all()


def test_kept_copy_is_the_first_by_uid_after_reference_and_earlier(pair: Pair) -> None:
    pool, _ = pair
    pool = pool.with_reference([])
    gone = np.flatnonzero([i.startswith("a/gone") for i in pool.image])
    assert np.flatnonzero(~later_copies(pool)[gone]).tolist() == [0]
    first = np.zeros(len(pool), dtype=bool)
    first[gone[3]] = True
    assert np.flatnonzero(~later_copies(pool, first)[gone]).tolist() == [3]
    marked = pool.with_reference(pool.uid[gone[5:7]])
    assert np.flatnonzero(~later_copies(marked, first)[gone]).tolist() == [5, 6]


def test_budget_above_the_pictures_selects_fewer_with_a_warning(pair: Pair) -> None:
    pool, signals = pair
    found = select(pool, signals, Random(), budget=1.0)
    pictures = shown(pool, found.uids)
    assert len(pictures) == len(set(pictures)) == 2 * (N_OWN + 1)
    assert "data.copies: keep" in found.meta["warnings"][0]
    kept = select(pool, signals, Random(), budget=1.0, copies="keep")
    assert len(shown(pool, kept.uids)) == len(pool)


def test_from_file_selects_every_listed_copy(pair: Pair, tmp_path: Path) -> None:
    pool, signals = pair
    gone = [row for row, image in enumerate(pool.image) if "gone" in image]
    listed = pool.uid[[row for row in gone if not pool.reference[row]][:5]]
    (tmp_path / "uids.txt").write_text("\n".join(listed))
    found = select(pool, signals, FromFile(str(tmp_path / "uids.txt")), budget=40)
    assert sorted(found.uids) == sorted(listed)


def test_other_instructions_of_one_image_are_other_samples(root: Path, tmp_path: Path) -> None:
    records = [
        {
            "id": str(n),
            "image": "a/gone00.png",
            "task": "a",
            "question": f"Question {n % 2}?",
            "answer": "A",
        }
        for n in range(6)
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    build_pool(source(str(tmp_path / "a.json"), str(root)), tmp_path)
    pool = load_pool(tmp_path, root)
    assert (~later_copies(pool)).sum() == 2
    assert (~later_copies(pool.hidden())).sum() == 1


def test_copies_are_reported_by_select_check_and_report(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(root, photos)
    for n in range(2):  # the same to the eye, other bytes
        with Image.open(photos / "a" / f"own0{n}.png") as image:
            image.save(photos / "a" / f"near0{n}.jpg", quality=95)
    given = ["--data.annotations", str(photos), "--data.num_workers", "0"]
    given += ["--out", str(tmp_path / "run"), "--data.budget", "20"]
    start = ["--config", "quickstart.yaml", "--selector", "Random", *given]
    assert main(["select", *start]) == 3
    told = " ".join(capsys.readouterr().out.split())
    assert "1 picture lies under 32 names, one under 32, such as a/gone00.png" in told
    lines = (tmp_path / "run" / "selection" / "requests.jsonl").read_text().splitlines()
    asked = [json.loads(line)["image"] for line in lines]
    assert len(asked) == 20 and sum(a.startswith("a/gone") for a in asked) <= 1
    assert main(["report", "--run", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    copies = json.loads((tmp_path / "run" / "report" / "report.json").read_text())["copies"]
    assert copies["same"]["largest"][0]["count"] == 2 * N_GONE
    assert [group["images"] for group in copies["near"]["largest"]] == [
        ["a/near00.jpg", "a/own00.png"],
        ["a/near01.jpg", "a/own01.png"],
    ]
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Copies" in page and "a/near00.jpg, a/own00.png" in page
    assert main(["check", *start]) == 0
    assert "under 32 names" in " ".join(capsys.readouterr().out.split())
    assert main(["select", *start, "--data.copies", "twice"]) == 2
