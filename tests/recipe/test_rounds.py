"""A run folder that is used again: larger budgets, new images, answers that come in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.signals import Features
from tests.conftest import fit_arguments


def selected_uids(out: Path) -> set[str]:
    table = pq.read_table(out / "selection" / "selection.parquet")
    return set(table.filter(table["selected"])["uid"].to_pylist())


def reference(out: Path) -> set[str]:
    return {record["uid"] for record in json.loads((out / "reference.json").read_text())}


def ledger(out: Path) -> dict[str, Any]:
    stages: dict[str, Any] = json.loads((out / "run.json").read_text())["stages"]
    return stages


def select(pool: Path, out: Path, *more: str) -> int:
    return main(["select", *fit_arguments(pool, out, *more)[1:]])


@pytest.mark.parametrize("selector", ["PreSel", "KCenter", "Random"])
def test_select_larger_budget_extends_the_selection(
    selector: str, pool_folder: Path, tmp_path: Path
) -> None:
    rounds = []
    for budget in ("0.15", "0.3", "0.45"):
        more = ["--selector", selector, "--data.budget", budget]
        assert select(pool_folder, tmp_path / "run", *more) == 0
        rounds.append(selected_uids(tmp_path / "run"))
    assert [len(found) for found in rounds] == [20, 39, 58]
    assert rounds[0] < rounds[1] < rounds[2]
    # the same command again changes nothing
    before = (tmp_path / "run" / "selection" / "selection.parquet").read_bytes()
    assert select(pool_folder, tmp_path / "run", *more) == 0
    assert (tmp_path / "run" / "selection" / "selection.parquet").read_bytes() == before


def test_select_restores_earlier_selection_after_lower_budget(
    pool_folder: Path, tmp_path: Path
) -> None:
    out, rounds = tmp_path / "run", []
    for budget in ("0.15", "0.3", "0.05", "0.3", "0.4"):
        more = ["--selector", "TypiClust", "--data.budget", budget]
        assert select(pool_folder, out, *more) == 0
        rounds.append(selected_uids(out))
    first, larger, lower, again, last = rounds
    assert not lower <= larger  # a smaller budget selects independently
    assert first < larger == again
    assert larger | lower <= last
    before = (out / "selection" / "selection.parquet").read_bytes()
    assert select(pool_folder, out, *more) == 0
    assert (out / "selection" / "selection.parquet").read_bytes() == before


def test_select_with_extend_false_ignores_earlier_selections(
    pool_folder: Path, tmp_path: Path
) -> None:
    small = ["--data.budget", "0.15", "--selector", "Random"]
    large = ["--data.budget", "0.45", "--selector", "Random", "--data.extend", "false"]
    assert select(pool_folder, tmp_path / "run", *small) == 0
    assert select(pool_folder, tmp_path / "run", *large) == 0
    assert select(pool_folder, tmp_path / "fresh", *large) == 0
    assert selected_uids(tmp_path / "run") == selected_uids(tmp_path / "fresh")


def test_select_new_images_reuse_the_old_features(pool_folder: Path, tmp_path: Path) -> None:
    records = json.loads((pool_folder / "train.json").read_text())
    part = tmp_path / "pool"
    shutil.copytree(pool_folder, part)
    (part / "train.json").write_text(json.dumps(records[:100]))
    out = tmp_path / "run"
    fraction = ["--data.reference", "0.08", "--data.budget", "0.3"]
    assert select(part, out, *fraction) == 0
    first, old = reference(out), features(out)
    selected = selected_uids(out)
    assert ledger(out)["features"].get("reused") is None
    (part / "train.json").write_text(json.dumps(records))
    assert select(part, out, *fraction) == 0
    assert ledger(out)["features"]["reused"] == 100
    assert first < reference(out)
    assert selected <= selected_uids(out)
    new = features(out)
    assert len(new) == len(records)
    assert all(np.array_equal(new[uid], old[uid]) for uid in old)


def features(out: Path) -> dict[str, np.ndarray]:
    folder = out / "signals" / "features"
    uids = np.load(folder / "uid.npy").astype(str)
    return dict(zip(uids.tolist(), np.load(folder / "features.npy"), strict=True))


def test_stale_feature_blocks_are_not_reused(
    pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())
    part, out = tmp_path / "pool", tmp_path / "run"
    shutil.copytree(pool_folder, part)
    (part / "train.json").write_text(json.dumps(records[:100]))
    more = ["--data.reference", "0.08", "--data.budget", "0.3", "--selector", "KCenter"]
    assert select(part, out, *more) == 0
    (part / "train.json").write_text(json.dumps(records))
    with monkeypatch.context() as patch:
        patch.setattr(Features, "write", full_disk)
        assert select(part, out, *more) == 1
    assert list((out / "work").glob("features-*/block-*"))  # of the 30 new images
    shutil.rmtree(out / "signals" / "features")
    assert select(part, out, *more) == 0
    assert select(part, tmp_path / "fresh", *more) == 0
    found, expected = features(out), features(tmp_path / "fresh")
    assert found.keys() == expected.keys()
    assert all(np.allclose(found[uid], expected[uid], atol=1e-5) for uid in expected)
    assert not list((out / "work").glob("features-*"))


def full_disk(*_: object) -> None:
    raise OSError("the disk is full")


@pytest.fixture
def photographs(pool_folder: Path, tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Folders of images, a folder a task, and the answers that belong to them."""
    folder = tmp_path / "photos"
    answers = []
    for record in json.loads((pool_folder / "train.json").read_text()):
        place = folder / record["task"] / Path(record["image"]).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pool_folder / record["image"], place)
        image = place.relative_to(folder).as_posix()
        answers.append({"image": image, "conversations": record["conversations"]})
    return folder, answers


def test_fit_from_file_requests_each_image_once(
    photographs: tuple[Path, list[dict[str, Any]]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, answers = photographs
    out, file = tmp_path / "run", tmp_path / "answers.jsonl"
    more = ["--annotator", "FromFile", "--annotator.init_args.path", str(file)]
    more += ["--data.annotations", str(folder), "--price_per_instruction", "0.5"]
    command = fit_arguments(tmp_path, out, *more, "--baselines", "random", "full")
    asked: list[list[str]] = []
    told = []
    while (code := main(command)) == 3:
        requests = (out / "selection" / "requests.jsonl").read_text().splitlines()
        asked.append([json.loads(line)["image"] for line in requests])
        reasons = {json.loads(line)["why"] for line in requests}
        assert reasons == {["reference split", "selection: typical of its cluster"][len(asked) - 1]}
        assert all(json.loads(line)["prompt"] for line in requests)
        with file.open("a") as handle:
            for answer in answers:
                if answer["image"] in asked[-1]:
                    handle.write(json.dumps(answer) + "\n")
        told.append(capfd.readouterr().err)
    assert code == 0
    assert [len(images) for images in asked] == [9, 23]
    assert "9 of 9 images of the reference split" in told[0] and "4.50" in told[0]
    assert not set(asked[0]) & set(asked[1])
    given = {json.loads(line)["image"] for line in file.read_text().splitlines()}
    assert given == {image for images in asked for image in images}
    selected = json.loads((out / "selection" / "selected.json").read_text())
    assert {record["image"] for record in selected} == given
    assert all(record["conversations"] for record in selected)
    reference_records = json.loads((out / "reference.json").read_text())
    assert all(record["conversations"] for record in reference_records)
    assert set(json.loads((out / "run.json").read_text())["arms_left_out"]) == {"random", "full"}
    # a corrected answer reruns the fit
    lines = file.read_text().splitlines()
    mended = json.loads(lines[-1])
    mended["conversations"][1]["value"] = "something else"
    file.write_text("\n".join([*lines[:-1], json.dumps(mended)]) + "\n")
    before = ledger(out)
    assert main(command) == 0
    assert ledger(out)["final"]["fingerprint"] != before["final"]["fingerprint"]
    assert ledger(out)["reference"]["fingerprint"] == before["reference"]["fingerprint"]


def test_from_pool_reveals_only_selected_samples(pool_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert (
        main(fit_arguments(pool_folder, out, "--annotator", "FromPool", "--baselines", "random"))
        == 0
    )
    log = (out / "annotations" / "access.jsonl").read_text().splitlines()
    seen = [json.loads(line)["uid"] for line in log]
    assert len(seen) == len(set(seen)) and set(seen) == selected_uids(out)
    why = [json.loads(line)["why"] for line in log]
    assert why[:9] == ["reference split"] * 9
    assert set(why[9:]) == {"selection: typical of its cluster"}
    assert json.loads((out / "run.json").read_text())["arms_left_out"].keys() == {"random"}
    plain = tmp_path / "plain"
    assert main(fit_arguments(pool_folder, plain)) == 0
    for name in ("selection/selection.parquet", "selection/selected.json", "reference.json"):
        same = (out / name, plain / name)
        assert same[0].read_bytes() == same[1].read_bytes()


def test_from_pool_with_annotations_hides_the_pools_own_text(
    pool_folder: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "run", str(pool_folder / "train.json")
    hidden = ["--annotator", "FromPool", "--annotator.init_args.annotations", file]
    assert select(pool_folder, out, "--selector", "Random", *hidden) == 0
    log = (out / "annotations" / "access.jsonl").read_text().splitlines()
    assert {json.loads(line)["uid"] for line in log} == selected_uids(out) and len(log) == len(
        selected_uids(out)
    )
