"""InfluenceSpace on a made-up pool of four clusters: two that help, one that does nothing, one that harms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from presel_lightning.data import Pool
from presel_lightning.errors import UserError
from presel_lightning.loading.samplers import GlobalBatchSampler
from presel_lightning.selectors import DataInf, InfluenceSpace
from presel_lightning.signals import ClipSimilarity, Gradients, PairGradients, Signals
from tests.selectors.pools import Case, make_pool

SLOPE = np.array([3.0, 1.0, 0.0, -2.0])
"""Mean gradient of each cluster along that of the validation set; the reference split is cluster 0."""
SIZE = 30


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, Signals, np.ndarray]:
    """120 samples, the cluster of each."""
    folder = tmp_path_factory.mktemp("four")
    pool = make_pool(folder / "pool", Case({"only": 4 * SIZE}, reference=0))
    kind = np.arange(len(pool)) % 4
    pool = pool.with_reference(pool.uid[:20:4])
    rng = np.random.default_rng(0)
    gradient = np.zeros((len(pool), 8))
    gradient[:, 0] = SLOPE[kind]
    gradient += 0.3 * rng.normal(size=gradient.shape)
    length = np.linalg.norm(gradient, axis=1)
    signals = Signals(folder / "signals")
    has = np.ones(len(pool), dtype=bool)
    columns = {"direction": (gradient / length[:, None]).astype(np.float16), "length": length}
    signals.of(Gradients).write(pool, has, columns, {"edges": [0, 8]})
    side = np.eye(4)[kind] + 0.01 * rng.normal(size=(len(pool), 4))
    match = {"image": side, "text": side, "similarity": np.ones(len(pool))}
    signals.of(ClipSimilarity).write(pool, has, match, {})
    return pool, signals, kind


def chosen_of(
    four: tuple[Pool, Signals, np.ndarray], budget: int, **options: Any
) -> tuple[Counter[int], dict[int, set[float]]]:
    """Samples of each cluster in the selection, and their weights."""
    pool, signals, kind = four
    selection = InfluenceSpace(clusters=4, **options).select(pool, signals, budget, seed=0)
    own = kind[pool.rows(selection.uids)]
    weights = {k: set(selection.weights[own == k].round(6).tolist()) for k in set(own.tolist())}
    return Counter(own.tolist()), weights


def test_harmful_cluster_is_pruned_and_helpful_ones_weigh_more(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    counts, weights = chosen_of(four, 60, beneficial=0.1, allocation="spread")
    assert sum(counts.values()) == 60 and 3 not in counts
    assert max(counts.values()) - min(counts.values()) <= 6  # in proportion to what they hold
    assert weights[2] == {1.0} and weights[0] == {5.0}
    assert len(weights[1]) == 1 and 1.5 < min(weights[1]) < 5


def test_harmful_cluster_fills_a_budget_that_the_others_cannot_meet(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    pool, signals, kind = four
    counts, _ = chosen_of(four, 100)
    assert counts == {0: 25, 1: 30, 2: 30, 3: 15}
    selector = InfluenceSpace(clusters=4, beneficial=0.1)
    selection = selector.select(pool, signals, 100, seed=0)
    rows = pool.rows(selection.uids)
    assert set(selection.reason[rows[kind[rows] == 3]]) == {"in a harmful cluster"}
    assert selection.meta["clusters"] == {"harmful": 1, "neutral": 1, "beneficial": 2}


def test_best_first_takes_whole_clusters_by_utility(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    assert chosen_of(four, 40, allocation="best_first")[0] == {0: 25, 1: 15}


def test_entropic_allocation_gives_more_to_higher_utility(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    counts, _ = chosen_of(four, 30, allocation="entropic", temperature=0.5)
    assert counts[0] > counts[1] > counts[2] > 0 and 3 not in counts


def test_high_temperature_is_spread_by_size(four: tuple[Pool, Signals, np.ndarray]) -> None:
    hot, cold = (chosen_of(four, 30, temperature=t)[0] for t in (1e6, 0.5))
    spread = chosen_of(four, 30, allocation="spread")[0]
    assert all(abs(hot[k] - spread[k]) <= 1 for k in range(4))  # the last image of a share
    assert cold[0] > hot[0] + 1


def test_knapsack_weights_spend_the_budget_on_the_best_clusters(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    pool, signals, kind = four
    selector = InfluenceSpace(clusters=4, weights="knapsack", most=2.0)
    selection = selector.select(pool, signals, 60, seed=0)
    own = kind[pool.rows(selection.uids)]
    assert selection.weights.sum() == pytest.approx(60)
    assert set(selection.weights[own == 0]) == {2.0}
    assert set(selection.weights[own == 2]) == {0.0}


def test_sign_is_that_of_the_validation_gradient(
    four: tuple[Pool, Signals, np.ndarray], tmp_path: Path
) -> None:
    """With the reference split in the harmful cluster, the clusters change their places."""
    pool, signals, kind = four
    turned = pool.with_reference(pool.uid[3:23:4])
    selection = InfluenceSpace(clusters=4).select(turned, signals, 40, seed=0)
    counts = Counter(kind[turned.rows(selection.uids)].tolist())
    assert 0 not in counts and 1 not in counts and counts[3] > 0


def test_absolute_thresholds_are_those_that_were_published(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    published = {"thresholds": "absolute", "harmful": 0.001, "beneficial": 0.01, "z": 0.0}
    counts, _ = chosen_of(four, 60, members=5, **published)
    assert sum(counts.values()) == 60 and 3 not in counts
    counts, _ = chosen_of(four, 60, thresholds="absolute", harmful=1e6)
    assert counts[3] > 0


def test_inside_by_utility_takes_the_best_of_each_cluster(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    pool, signals, kind = four
    selection = InfluenceSpace(clusters=4).select(pool, signals, 30, seed=0)
    picked = np.isin(pool.uid, selection.uids)
    signal = signals.of(Gradients)
    everything = np.arange(len(pool))
    direction = signal.read(pool, everything, "direction")
    along = direction[:, 0] * signal.read(pool, everything, "length")
    for number in range(3):
        own = (kind == number) & ~pool.reference
        assert along[own & picked].mean() > along[own & ~picked].mean()


def test_inside_at_random_is_a_draw_by_seed(four: tuple[Pool, Signals, np.ndarray]) -> None:
    pool, signals, _ = four
    selector = InfluenceSpace(clusters=4, inside="random")
    one, same, other = (selector.select(pool, signals, 30, seed=seed).uids for seed in (0, 0, 1))
    assert one.tolist() == same.tolist() != other.tolist()


def test_clusters_that_cannot_be_told_apart_are_warned_of(
    four: tuple[Pool, Signals, np.ndarray],
) -> None:
    pool, signals, _ = four
    selection = InfluenceSpace(clusters=4, z=1000.0).select(pool, signals, 30, seed=0)
    assert set(selection.weights) == {1.0}
    assert "none of 4 clusters is harmful or beneficial" in selection.meta["warnings"][-1]


@pytest.mark.parametrize("world", [1, 2])
def test_samples_of_weight_three_are_drawn_three_times_as_often(
    four: tuple[Pool, Signals, np.ndarray], world: int
) -> None:
    """Over the epochs of all processes, by the weights that training gets with `data.weights: sample`."""
    pool, signals, kind = four
    selector = InfluenceSpace(clusters=4, most=3.0)
    selection = selector.select(pool, signals, 60, seed=0)
    own, drawn = kind[pool.rows(selection.uids)], Counter[int]()
    lengths = np.ones(len(own))
    for rank in range(world):
        options = {"chances": selection.weights}
        sampler = GlobalBatchSampler(lengths, 8, 0, rank, world, **options)  # type: ignore[arg-type]
        for epoch in range(400):
            sampler.set_epoch(epoch)
            drawn.update(own[row] for rows in sampler for row, weight in rows if weight)
    each = {number: drawn[number] / (own == number).sum() for number in (0, 2)}
    assert each[0] / each[2] == pytest.approx(3, rel=0.08)


@pytest.mark.parametrize("key", ["embedding", "tail", "thresholds", "allocation", "weights", "inside", "loss"])  # fmt: skip
def test_unknown_option_is_named(key: str) -> None:
    with pytest.raises(UserError, match=rf"init_args.{key} 'best' is unknown; choose from"):
        InfluenceSpace(**{key: "best"})  # type: ignore[arg-type]


def test_largest_weight_below_one_is_refused_where_weights_are_scaled() -> None:
    with pytest.raises(UserError, match=r"selector.init_args.most is 0.5; with weights `scaled`"):
        InfluenceSpace(most=0.5)
    assert InfluenceSpace(most=0.5, weights="knapsack").most == 0.5


def test_image_embedding_needs_the_features() -> None:
    assert InfluenceSpace(embedding="image").needs == ("features", "gradients")
    assert InfluenceSpace().needs == ("clip_similarity", "gradients")


PAIRS = ("clip_similarity", "pair_gradients")


@pytest.mark.parametrize(
    ("selector", "needs", "on_pairs"),
    [
        (InfluenceSpace(), ("clip_similarity", "gradients"), PAIRS),
        (InfluenceSpace(loss="contrastive"), PAIRS, PAIRS),
        (InfluenceSpace("image", loss="contrastive"), ("features", *PAIRS), ("features", *PAIRS)),
        (InfluenceSpace(loss="answer"), ("clip_similarity", "gradients"), ("clip_similarity", "gradients")),
        (DataInf(), ("gradients",), PAIRS),
        (DataInf(loss="contrastive"), PAIRS, PAIRS),
    ],
)  # fmt: skip
def test_loss_that_is_left_open_is_contrastive_on_pairs(
    selector: InfluenceSpace | DataInf, needs: tuple[str, ...], on_pairs: tuple[str, ...]
) -> None:
    assert selector.needs == needs
    selector.on_pairs()
    assert selector.needs == on_pairs


def test_contrastive_loss_reads_the_gradients_of_pairs(
    four: tuple[Pool, Signals, np.ndarray], tmp_path: Path
) -> None:
    """The same values under the other name give the same choice; the other signal is not touched."""
    pool, signals, _ = four
    other = Signals(tmp_path / "signals")
    everything = np.arange(len(pool))
    for source, kind in ((Gradients, PairGradients), (ClipSimilarity, ClipSimilarity)):
        signal = signals.of(source)
        names = ("direction", "length") if source is Gradients else ("image", "text", "similarity")
        columns = {name: signal.read(pool, everything, name) for name in names}
        other.of(kind).write(pool, np.ones(len(pool), bool), columns, {"edges": [0, 8]})
    for selector, same in (
        (InfluenceSpace(clusters=4), InfluenceSpace(clusters=4, loss="contrastive")),
        (DataInf(), DataInf(loss="contrastive")),
    ):
        one = selector.select(pool, signals, 40, seed=0)
        found = same.select(pool, other, 40, seed=0)
        assert found.uids.tolist() == one.uids.tolist()
        assert selector.fingerprint() != same.fingerprint()
