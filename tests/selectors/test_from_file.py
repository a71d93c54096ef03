from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.data import Pool, load_pool
from presel_lightning.errors import UserError
from presel_lightning.selectors import FromFile
from presel_lightning.signals import Signals


@pytest.fixture
def pool(finished: Path, pool_folder: Path) -> Pool:
    return load_pool(finished, pool_folder)


def selected_uids(path: Path, pool: Pool, budget: int) -> list[str]:
    return sorted(FromFile(str(path)).select(pool, Signals(path), budget, seed=0).uids)


def test_from_file_selects_what_another_run_selected(finished: Path, pool: Pool) -> None:
    selected = finished / "selection" / "selected.json"
    uids = sorted(record["uid"] for record in json.loads(selected.read_text()))
    assert selected_uids(selected, pool, len(uids)) == uids


def test_manifest_of_a_run_is_read_back_by_uid_and_by_id_and_image(
    finished: Path, pool: Pool, tmp_path: Path
) -> None:
    path = finished / "selection" / "manifest.json"
    manifest = json.loads(path.read_text())
    uids = sorted(sample["uid"] for sample in manifest["samples"])
    selected = json.loads((finished / "selection" / "selected.json").read_text())
    assert uids == sorted(record["uid"] for record in selected)
    assert manifest["method"]["class_path"].endswith("PreSel") and manifest["versions"]["torch"]
    assert selected_uids(path, pool, len(uids)) == uids
    for sample in manifest["samples"]:
        row = pool.rows([sample["uid"]])[0]
        assert sample["image_digest"] == pool.image_digest[row].tobytes().hex()
        sample["uid"] = "f" * 32  # of a pool with other tasks
    (tmp_path / "other.json").write_text(json.dumps(manifest))
    assert selected_uids(tmp_path / "other.json", pool, len(uids)) == uids


def test_json_object_that_is_no_manifest_raises_user_error(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"uids": []}')
    with pytest.raises(UserError, match=r"without `samples` is no manifest; give one uid a line"):
        selected_uids(tmp_path / "a.json", pool, 5)


def test_from_file_matches_records_by_id_and_image(
    pool: Pool, pool_folder: Path, tmp_path: Path
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())[:5]
    (tmp_path / "a.json").write_text(json.dumps(records))
    found = selected_uids(tmp_path / "a.json", pool, 5)
    assert sorted(pool.id[pool.rows(found)]) == sorted(record["id"] for record in records)


@pytest.mark.parametrize(
    ("text", "told"),
    [("0" * 32, "not in the pool"), ('[{"id": "x", "image": "y"}]', "0 samples")],
)
def test_from_file_sample_outside_the_pool_is_named(
    text: str, told: str, pool: Pool, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(UserError, match=told):
        selected_uids(tmp_path / "a", pool, 5)


def test_from_file_longer_than_the_budget_raises_user_error(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n".join(pool.uid[:6]))
    with pytest.raises(UserError, match=r"lists 6 samples.*data\.budget to 6"):
        selected_uids(tmp_path / "a", pool, 5)
    # the budget holds the reference split too, whether the file names it or not
    marked = pool.with_reference(pool.uid[4:9])
    with pytest.raises(UserError, match=r"lists 4 samples beside the reference.*budget to 9"):
        selected_uids(tmp_path / "a", marked, 3)
    assert selected_uids(tmp_path / "a", marked, 4) == sorted(pool.uid[:4])


def weights(path: Path, pool: Pool) -> dict[str, float]:
    """Uids and weights that a file gives."""
    found = FromFile(str(path)).select(pool, Signals(path), len(pool), seed=0)
    return dict(zip(found.uids, found.weights.tolist(), strict=True))


FORMS = ["selected.json", "own fields", "table", "reversed table"]


@pytest.mark.parametrize("form", FORMS)
def test_from_file_with_weights_returns_them_with_its_samples(
    form: str, pool: Pool, tmp_path: Path
) -> None:
    known = dict(zip(pool.uid[5:9], [2.5, 1.0, 0.0, 1e-3], strict=True))
    lines = [f"{number},{uid},{known[uid]!r}" for number, uid in enumerate(known)]
    texts = {
        "selected.json": json.dumps(
            [
                {"uid": uid, **({"presel": {"weight": w}} if w != 1 else {})}
                for uid, w in known.items()
            ]
        ),
        "own fields": json.dumps(
            [{"presel": {"uid": uid, "weight": w}} for uid, w in known.items()]
        ),
        "table": "\n".join(["row,uid,weight", *lines, ""]),
        "reversed table": "\r\n".join(["row, uid, weight", *lines[::-1]]),
    }
    (tmp_path / "list").write_text(texts[form], newline="")
    assert weights(tmp_path / "list", pool) == known


@pytest.mark.parametrize("text", ["uid\n{0}\n{1}\n", "uid,weight\n{0},\n{1},1\n", "{0} {1}"])
def test_fingerprint_of_unweighted_list_is_its_names(text: str, pool: Pool, tmp_path: Path) -> None:
    """So that what was selected by it is not selected again."""
    (tmp_path / "list").write_text(text.format(*pool.uid[:2]))
    assert weights(tmp_path / "list", pool) == dict.fromkeys(pool.uid[:2], 1.0)
    assert FromFile(str(tmp_path / "list")).fingerprint() == pool.uid[:2].tolist()


def test_fingerprint_after_changed_weight_differs(pool: Pool, tmp_path: Path) -> None:
    found = []
    for weight in ("1", "2", "3"):
        (tmp_path / "list").write_text(f"uid,weight\n{pool.uid[0]},{weight}\n")
        found.append(json.dumps(FromFile(str(tmp_path / "list")).fingerprint()))
    assert len(set(found)) == 3


def test_from_file_with_text_as_weight_raises_user_error(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"uid,weight\n{pool.uid[0]},heavy\n")
    with pytest.raises(UserError, match=r"init_args\.path .*list: a weight is not a number.*heavy"):
        weights(tmp_path / "list", pool)


def test_from_file_naming_a_sample_twice_takes_the_first_weight(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("uid,weight\n{0},2\n{0},3\n".format(pool.uid[0]))
    assert weights(tmp_path / "list", pool) == {pool.uid[0]: 2.0}
