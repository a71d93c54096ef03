from __future__ import annotations

import numpy as np
import pytest

from presel_lightning.errors import UserError
from presel_lightning.selectors import KCenter, KMeansPlusPlus
from tests.selectors.pools import Pair


@pytest.mark.parametrize("budget", [1, 20, 80])
def test_k_center_matches_greedy_rule_from_the_reference(budget: int, pair: Pair) -> None:
    pool, signals = pair
    features = signals.features(pool, np.arange(len(pool))).astype(np.float64)
    distance = np.linalg.norm(features[:, None] - features[None], axis=2).round(6)
    centers = np.flatnonzero(pool.reference).tolist()
    order: list[int] = []
    for _ in range(budget):
        nearest = distance[:, centers].min(axis=1)
        nearest[centers] = -1
        order.append(int(nearest.argmax()))
        centers.append(order[-1])
    chosen = KCenter().select(*pair, budget, seed=0)
    assert set(chosen.uids) == set(pool.uid[order])
    assert np.argsort(np.where(chosen.rank < 0, 10**6, chosen.rank))[:budget].tolist() == order


def test_k_center_without_reference_starts_at_a_seeded_sample(bare: Pair) -> None:
    firsts = {KCenter().select(*bare, 1, seed=seed).uids[0] for seed in range(5)}
    assert len(firsts) > 1
    chosen = KCenter().select(*bare, 30, seed=0)
    assert chosen.score[chosen.rank == 0] == 2
    assert (np.diff(chosen.score[np.argsort(chosen.rank)]) <= 1e-9).all()


def test_k_center_selects_duplicates_last(bare: Pair) -> None:
    pool, _ = bare
    chosen = KCenter().select(*bare, len(pool) - 7, seed=0)
    assert chosen.budgets["twins"] == 1


@pytest.mark.parametrize("kind", [KCenter, KMeansPlusPlus])
def test_joint_embedding_is_image_and_text(kind: type[KCenter], pair: Pair) -> None:
    pool, signals = pair
    rows = np.arange(len(pool))
    image, text = (signals.clip_similarity(pool, rows, side) for side in ("image", "text"))
    joint = np.concatenate([image, text], axis=1).astype(np.float64)
    known = np.isfinite(joint).all(axis=1)
    chosen = kind(embedding="joint").select(pool, signals, 40, seed=1)
    picks = np.argsort(np.where(chosen.rank < 0, 10**6, chosen.rank))[:40]
    before = np.flatnonzero(pool.reference & known).tolist()
    unit = joint / np.linalg.norm(joint, axis=1, keepdims=True)
    for row in picks:
        near = np.linalg.norm(unit[before] - unit[row], axis=1).min()
        assert chosen.score[row] == pytest.approx(near, abs=1e-3)
        before.append(row)


def test_an_unknown_embedding_is_refused() -> None:
    with pytest.raises(UserError, match="joint, image"):
        KMeansPlusPlus(embedding="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [KCenter, KMeansPlusPlus])
def test_embedding_that_is_left_open_is_joint_on_pairs(kind: type[KCenter]) -> None:
    found = []
    for given in (None, "image", "joint"):
        selector = kind(embedding=given)
        before = selector.needs
        selector.on_pairs()
        found.append((before, selector.needs))
    image, joint = ("features",), ("clip_similarity",)
    assert found == [(image, joint), (image, image), (joint, joint)]
