"""What is held out of a pool: whole pictures, the same ones in any order."""

from __future__ import annotations

import numpy as np
import pytest

from presel_lightning.data import Pool
from presel_lightning.data.held_out import held_out
from tests.selectors.pools import Case, make_pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(
        tmp_path_factory.mktemp("held") / "pool", Case({"a": 30, "b": 10}, reference=0)
    )


def with_pictures(pool: Pool, several: int) -> Pool:
    """The same pool with so many samples a picture."""
    digest = [(row // several).to_bytes(2, "big") * 8 for row in range(len(pool))]
    other = pool.without(np.zeros(len(pool), dtype=bool))
    other.image_digest = np.frombuffer(b"".join(digest), "V16")
    return other


def test_pictures_are_held_out_whole(pool: Pool) -> None:
    pool = with_pictures(pool, 3)
    marked = held_out(pool, 0.25)
    assert 10 <= marked.sum() <= 12  # the last picture may lead past the fraction
    held = {bytes(digest) for digest in pool.image_digest[marked]}
    assert not held & {bytes(digest) for digest in pool.image_digest[~marked]}
    assert held_out(pool, 0.0).sum() == 0


def test_same_pictures_are_held_out_of_a_pool_in_another_order(pool: Pool) -> None:
    pool = with_pictures(pool, 2)
    order = np.random.default_rng(0).permutation(len(pool))
    other = pool.without(np.zeros(len(pool), dtype=bool))
    other.image_digest = pool.image_digest[order]
    np.testing.assert_array_equal(held_out(other, 0.2), held_out(pool, 0.2)[order])


def test_both_parts_are_pools_with_tasks_of_their_own(pool: Pool) -> None:
    marked = pool.task == "b"
    one, other = pool.parted(marked)
    assert one.tasks == ("b",) and one.sizes == {"b": 10}
    assert other.tasks == ("a",) and len(other) == 30
    assert sorted([*one.uid, *other.uid]) == pool.uid.tolist()
    assert one.sample(0).uid == one.uid[0] and pool.sizes == {"a": 30, "b": 10}
