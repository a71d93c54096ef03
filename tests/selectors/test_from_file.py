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
    with pytest.raises(UserError, match=r"names 6 samples.*data\.budget to 6"):
        selected_uids(tmp_path / "a", pool, 5)
    # the budget holds the reference split too, whether the file names it or not
    marked = pool.with_reference(pool.uid[4:9])
    with pytest.raises(UserError, match=r"names 4 samples beside the reference.*budget to 9"):
        selected_uids(tmp_path / "a", marked, 3)
    assert selected_uids(tmp_path / "a", marked, 4) == sorted(pool.uid[:4])
