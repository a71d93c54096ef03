"""Selectors by a score of the instructions, against literal loops of their equations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from presel_lightning.data import Pool
from presel_lightning.errors import UserError
from presel_lightning.selectors import (
    CCS,
    EL2N,
    IFD,
    ClipScore,
    D2Pruning,
    Perplexity,
    SelfFilter,
    VisNec,
)
from presel_lightning.selectors.by_score import ordered_by
from presel_lightning.selectors.d2pruning import messages
from presel_lightning.signals import ClipSimilarity, Signals, TokenLoss
from tests.selectors.pools import Case, Pair, make_pair, write_columns

BUDGET = 12
SCORES = (Perplexity, IFD, EL2N, VisNec, ClipScore, CCS, D2Pruning, SelfFilter)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("by_score"), Case({"a": 30, "b": 21}, reference=0))


def columns(pair: Pair, *names: str) -> list[list[float]]:
    """Columns of `token_loss` for the whole pool."""
    pool, signals = pair
    return [signals.token_loss(pool, np.arange(len(pool)), name).tolist() for name in names]


def best(pool: Pool, score: list[float]) -> set[str]:
    order = sorted(range(len(pool)), key=lambda row: (-score[row], row))
    return {pool.uid[row] for row in order[:BUDGET]}


def test_perplexity_selects_the_middle_of_the_sorted_losses(pair: Pair) -> None:
    pool, signals = pair
    (loss,) = columns(pair, "loss_with_question")
    ordered = sorted(range(len(pool)), key=lambda row: math.exp(loss[row]))
    middle = (len(pool) - 1) // 2  # 51 samples: an odd number around the median
    found = Perplexity().select(pool, signals, 11, seed=0)
    assert set(found.uids) == {pool.uid[row] for row in ordered[middle - 5 : middle + 6]}
    highest = Perplexity(keep="highest").select(pool, signals, BUDGET, seed=0)
    assert set(highest.uids) == best(pool, [math.exp(value) for value in loss])
    lowest = Perplexity(keep="lowest").select(pool, signals, BUDGET, seed=0)
    assert set(lowest.uids) == best(pool, [-value for value in loss])


def test_el2n_and_clip_score_select_the_highest(pair: Pair) -> None:
    pool, signals = pair
    (norm,) = columns(pair, "error_norm")
    assert set(EL2N().select(pool, signals, BUDGET, seed=0).uids) == best(pool, norm)
    cosine = signals.clip_similarity(pool, np.arange(len(pool)), "similarity").tolist()
    assert set(ClipScore().select(pool, signals, BUDGET, seed=0).uids) == best(pool, cosine)


def test_ifd_selects_the_highest_ratio_below_1(pair: Pair) -> None:
    pool, signals = pair
    with_question, without = columns(pair, "loss_with_question", "loss_without_question")
    ratio = [a / b for a, b in zip(with_question, without, strict=True)]
    below = [row for row in range(len(pool)) if ratio[row] < 1]
    above = [row for row in range(len(pool)) if ratio[row] >= 1]
    order = sorted(below, key=lambda row: -ratio[row]) + sorted(above, key=lambda row: ratio[row])
    assert above and len(below) < 40
    for budget in (BUDGET, 40):
        found = IFD().select(pool, signals, budget, seed=0)
        assert set(found.uids) == {pool.uid[row] for row in order[:budget]}


def test_visnec_selects_the_highest_gain_by_the_image_in_each_cluster(pair: Pair) -> None:
    pool, signals = pair
    without, with_image = columns(pair, "loss_without_image", "loss_with_question")
    gain = [a - b for a, b in zip(without, with_image, strict=True)]
    found = VisNec(samples_per_cluster=17).select(pool, signals, BUDGET, seed=0)
    assert len(set(found.cluster)) == 3
    for cluster in range(3):
        own = np.flatnonzero(found.cluster == cluster)
        picked = [row for row in own if pool.uid[row] in set(found.uids)]
        assert abs(len(picked) - BUDGET * len(own) / len(pool)) < 1  # largest remainder
        ordered = sorted(own, key=lambda row: (-gain[row], row))
        assert set(picked) == set(ordered[: len(picked)])
    alone = VisNec().select(pool, signals, BUDGET, seed=0)  # one cluster
    assert set(alone.uids) == best(pool, gain)


def test_ccs_draws_evenly_from_strata_and_the_hardest_last(pair: Pair) -> None:
    pool, signals = pair
    (norm,) = columns(pair, "error_norm")
    found = CCS(drop=0.2, strata=4).select(pool, signals, 20, seed=0)
    ordered = sorted(range(len(pool)), key=lambda row: norm[row])
    kept, dropped = ordered[: 51 - 10], ordered[51 - 10 :]
    low, high = norm[kept[0]], norm[kept[-1]]
    strata: list[list[int]] = [[], [], [], []]
    for row in kept:
        strata[min(3, int((norm[row] - low) / (high - low) * 4))].append(row)
    left, expected = 20, []
    for number, stratum in enumerate(sorted(strata, key=len)):
        expected.append(min(len(stratum), left // (4 - number)))
        left -= expected[-1]
    chosen = set(found.uids)
    counts = [
        sum(pool.uid[row] in chosen for row in stratum) for stratum in sorted(strata, key=len)
    ]
    assert sorted(counts) == sorted(expected) and not chosen & {pool.uid[r] for r in dropped}
    more = CCS(drop=0.2, strata=4).select(pool, signals, 43, seed=0)
    assert {pool.uid[row] for row in dropped[:2]} <= set(more.uids)


def test_d2_values_are_the_messages_of_the_neighbors() -> None:
    hard = np.array([1.0, 3.0, 2.0])
    places, cosines = np.array([[1], [0], [1]]), np.array([[1.0], [1.0], [0.5]])
    value, factors = messages(hard, places, cosines, 2.0)
    apart = math.sqrt(2 - 2 * 0.5)
    assert value.tolist() == pytest.approx([0 + 1, 1 + 0, 0.5 + math.exp(-apart)])
    assert factors[:, 0].tolist() == pytest.approx([1, 1, math.exp(-2 * apart)])


def test_self_filter_learns_which_vectors_have_high_losses(pair: Pair) -> None:
    """Losses that a direction of the vectors decides."""
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(512, 6, generator=generator), dim=1)
    losses = 2 + features[:, 2]
    found = SelfFilter().difficulty(features, losses, seed=0)
    assert np.corrcoef(found, losses)[0, 1] > 0.9
    assert found.min() == 0 and found.max() == 1


def test_self_filter_passes_over_the_neighbors_of_what_is_selected() -> None:
    """Two equal pairs: the second of the harder pair is penalized below the easier pair."""
    features = torch.eye(2)[[0, 0, 1]]
    rows = SelfFilter(neighbors=1).picks(features, np.array([1.0, 0.9, 0.5]), 3)
    assert rows.tolist() == [0, 2, 1]
    assert SelfFilter(neighbors=1, gamma=0.0).picks(
        features, np.array([1.0, 0.9, 0.5]), 3
    ).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", SCORES, ids=lambda kind: kind.__name__)
def test_sample_without_a_value_is_counted_and_never_selected_for_it(
    kind: type[Perplexity], pair: Pair, tmp_path: Path
) -> None:
    """One has no instruction, one a loss that is not finite."""
    pool, whole = pair
    signals = Signals(tmp_path / "signals")
    has = np.ones(len(pool), dtype=bool)
    has[4] = False
    write_columns(signals, pool, has)
    (signals.folder / "features").symlink_to(whole.folder / "features")
    row = 20
    for signal in (TokenLoss, ClipSimilarity):
        for column in signals.of(signal).path.glob("*.npy"):
            if column.stem in ("uid", "row", "n_tokens"):
                continue
            values = np.load(column)
            values[row - 1] = np.inf  # row 4 has no place in the columns
            np.save(column, values)
    found = kind().select(pool, signals, 49, seed=0)
    lost = {pool.uid[4], pool.uid[row]}
    assert not lost & set(found.uids) and len(found.uids) == 49
    assert (
        np.isnan(found.score[[4, row]]).all()
        and np.isfinite(np.delete(found.score, [4, row])).all()
    )
    assert list(found.reason[[4, row]]) == ["no score", "no score"]
    assert "2 of 51 samples have no score" in found.meta["warnings"][0]
    everything = kind().select(pool, signals, 51, seed=0)
    assert lost <= set(everything.uids)


@pytest.mark.parametrize("kind", [Perplexity, EL2N, ClipScore])
def test_unknown_keep_is_named(kind: type[Perplexity]) -> None:
    with pytest.raises(UserError, match="keep 'x' is unknown; choose from highest, middle"):
        kind(keep="x")  # type: ignore[arg-type]


def test_ordered_by_middle_of_an_even_number_prefers_neither_side() -> None:
    found = ordered_by(np.array([4.0, np.nan, 1.0, 3.0, 2.0]), "middle", "keep")
    assert np.isnan(found[1]) and found[[0, 2, 3, 4]].tolist() == [-1.5, -1.5, -0.5, -0.5]
