"""Vetoed and pinned samples, whatever the selector: exact budget, nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.records import Selection
from presel_lightning.run.decisions import Decisions
from presel_lightning.selectors import KCenter, PreSel, Random, Selector
from presel_lightning.selectors.reviewed import PINNED, SUBSTITUTE, VETOED, reviewed
from presel_lightning.signals import Signals
from tests.selectors.pools import Pair
from tests.selectors.test_contract import build, concrete

N = 30


def select(kind: type[Selector], pair: Pair, folder: Path) -> Selection:
    pool, signals = pair
    return build(kind, folder, pool, N).select(pool, signals, N, seed=0)


def decide(vetoed: Any = (), pinned: Any = ()) -> Decisions:
    return Decisions(frozenset(vetoed), frozenset(pinned))


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: kind.__name__)
def test_reviewed_selection_keeps_budget_and_all_other_samples(
    kind: type[Selector], pair: Pair, tmp_path: Path
) -> None:
    pool, _ = pair
    before = select(kind, pair, tmp_path)
    left = sorted(set(pool.uid[~pool.reference]) - set(before.uids))
    vetoed, pinned = [*before.uids[::9], left[0]], left[5::25]
    after = reviewed(before, pool, decide(vetoed, pinned))
    assert len(after.uids) == len(set(after.uids)) == len(before.uids)
    assert not set(vetoed) & set(after.uids) and set(pinned) <= set(after.uids)
    # each decision changes one place
    swapped = len(set(vetoed) & set(before.uids)) + len(pinned)
    assert len(set(before.uids) - set(after.uids)) <= swapped
    assert sorted(after.weights) == sorted(before.weights)
    assert sum(after.budgets.values()) == len(after.uids)
    assert {after.reason[row] for row in pool.rows(vetoed)} == {VETOED}
    assert {after.reason[row] for row in pool.rows(pinned)} == {PINNED}
    assert after.meta["review"] == {"vetoed": len(vetoed), "pinned": len(pinned)}
    assert np.array_equal(after.score, before.score, equal_nan=True)


def test_veto_gives_the_next_of_the_cluster(pair: Pair, tmp_path: Path) -> None:
    pool, _ = pair
    before = select(PreSel, pair, tmp_path)
    for uid in before.uids:
        row = pool.rows([uid])[0]
        rows = pool.task_rows(pool.task[row])
        rows = rows[(before.cluster[rows] == before.cluster[row]) & ~pool.reference[rows]]
        rest = sorted((before.rank[r], pool.uid[r]) for r in rows if pool.uid[r] not in before.uids)
        after = reviewed(before, pool, decide([uid]))
        new = set(after.uids) - set(before.uids)
        assert len(new) == 1 and after.reason[pool.rows(new)[0]] == SUBSTITUTE
        if rest:
            assert new == {rest[0][1]}
        assert after.budgets == before.budgets or not rest


def test_veto_of_a_method_that_orders_the_pool_gives_the_next_of_the_pool(
    pair: Pair, tmp_path: Path
) -> None:
    pool, _ = pair
    before = select(Random, pair, tmp_path)
    after = reviewed(before, pool, decide(before.uids[:4]))
    ranks = sorted(before.rank[pool.rows(set(after.uids) - set(before.uids))])
    assert ranks == [N, N + 1, N + 2, N + 3]


@given(data=st.data())
def test_reviewed_any_decisions_keep_the_budget(
    data: st.DataObject, pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool, _ = pair
    before = select(KCenter, pair, tmp_path_factory.mktemp("any"))
    uids = st.lists(st.sampled_from(pool.uid.tolist()), max_size=40, unique=True)
    vetoed, pinned = set(data.draw(uids)), set(data.draw(uids))
    pinned -= vetoed
    reference = set(pool.uid[pool.reference])
    if len(pinned - reference) > N:
        with pytest.raises(UserError, match=r"pinned in review\.jsonl.*raise data\.budget"):
            reviewed(before, pool, decide(vetoed, pinned))
        return
    after = set(reviewed(before, pool, decide(vetoed, pinned)).uids)
    assert len(after) == N and not after & (vetoed | reference)
    assert pinned - reference <= after
    assert len(set(before.uids) - after) <= len((vetoed | pinned) - reference)


def test_vetoes_that_leave_too_few_are_reported(pair: Pair, tmp_path: Path) -> None:
    pool, _ = pair
    before = select(Random, pair, tmp_path)
    kept = before.uids[:10]
    after = reviewed(before, pool, decide(set(pool.uid) - set(kept)))
    assert set(after.uids) == set(kept)
    assert "20 vetoed samples have no substitute" in after.meta["warnings"][0]


def test_decisions_on_unknown_samples_change_nothing(pair: Pair, tmp_path: Path) -> None:
    before = select(Random, pair, tmp_path)
    assert reviewed(before, pair[0], decide(["0" * 32])) is before


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Two tasks of 12 pictures, of which the first lies under four more names."""
    folder = tmp_path_factory.mktemp("photos")
    for task in "ab":
        (folder / task).mkdir()
        for n in range(12):
            Image.new("RGB", (8, 8), (n * 20, 0, ord(task))).save(folder / task / f"{n}.png")
        for n in range(4):
            (folder / task / f"copy{n}.png").write_bytes((folder / task / "0.png").read_bytes())
    out = folder.parent / "out"
    build_pool(source(str(folder)), out)
    return load_pool(out, folder)


def selected(pool: Pool, decisions: Decisions, budget: int = 12) -> set[str]:
    data = SelectionDataModule(budget=budget)
    data.pool = pool
    none = Signals(pool.out / "signals")
    return set(data.select(Random(), none, seed=0, decisions=decisions).uids)


def test_copy_of_a_vetoed_picture_takes_no_place(photos: Pool) -> None:
    everything = selected(photos, decide(), budget=24)  # all pictures, each under one name
    row = next(
        r
        for r in photos.rows(everything)
        if (photos.image_digest == photos.image_digest[r]).sum() > 1
    )
    left = selected(photos, decide([photos.uid[row]]), budget=24)
    assert len(everything) == 24 and left == everything - {photos.uid[row]}


def test_pinned_copy_replaces_the_name_that_was_selected(photos: Pool) -> None:
    for uid in photos.uid[np.char.find(photos.image.astype(str), "copy") >= 0]:
        found = selected(photos, decide(pinned=[uid]))
        rows = photos.rows([uid])
        same = photos.image_digest == photos.image_digest[rows[0]]
        assert uid in found and len(found) == 12 and len(found & set(photos.uid[same])) == 1


def test_split_reference_replaces_only_the_vetoed(photos: Pool) -> None:
    data = SelectionDataModule(reference=8, budget=12)
    data.pool = photos
    drawn = set(data.split_reference(0))
    for uid in drawn:
        other = set(data.split_reference(0, decisions=decide([uid])))
        assert len(other) == 8 and drawn - other == {uid}
        (new,) = other - drawn
        assert photos.task[photos.rows([new])] == photos.task[photos.rows([uid])]
    own = set(photos.uid[photos.task == "a"])
    assert len(set(data.split_reference(0, decisions=decide(own))) - own) == 8
