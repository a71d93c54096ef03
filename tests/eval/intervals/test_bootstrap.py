from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from presel_lightning.eval.intervals.bootstrap import Credits, percentile_interval, resampled_scores

RESAMPLES = 20_000


def interval(credits: Credits, seed: int = 0) -> tuple[float, float]:
    drawn = resampled_scores(credits, seed=seed, resamples=RESAMPLES)[:, 0]
    low, high = percentile_interval(100 * drawn)
    return low / 100, high / 100


@pytest.mark.parametrize("n", [12, 300])
@pytest.mark.parametrize("kind", ["right or wrong", "credit"])
def test_bootstrap_interval_matches_scipy(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    values = rng.uniform(size=n) if kind == "credit" else (rng.uniform(size=n) < 0.4).astype(float)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    spread = values.std() / math.sqrt(n)
    ours = interval(Credits(values.tolist()), seed=2)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=max(0.06 * spread, 1.01 / n * 0.5))


def test_bootstrap_of_groups_matches_scipy_mean_of_means() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.uniform(size=40), 2 * rng.uniform(size=10), rng.uniform(size=200) - 1]
    groups = [name for name, part in zip("abc", parts) for _ in part]

    def mean_of_means(*samples: np.ndarray, axis: int) -> np.ndarray:
        return np.mean([s.mean(axis=axis) for s in samples], axis=0)  # type: ignore[no-any-return]

    theirs = stats.bootstrap(
        parts,
        mean_of_means,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    credits = Credits(np.concatenate(parts).tolist(), groups)
    assert credits.score() == pytest.approx(np.mean([part.mean() for part in parts]))
    assert interval(credits, seed=3) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_bootstrap_resamples_images_as_scipy_cluster_bootstrap() -> None:
    rng = np.random.default_rng(0)
    asked = rng.integers(1, 9, 60)
    easy = rng.uniform(size=60)
    right = [rng.uniform(size=n) < p for n, p in zip(asked, easy, strict=True)]
    sums = np.array([r.sum() for r in right])
    theirs = stats.bootstrap(
        (sums, asked),
        lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    values = np.concatenate(right).astype(float).tolist()
    images = [f"image {number}" for number, n in enumerate(asked) for _ in range(n)]
    low, high = interval(Credits(values, units=images))
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    alone = interval(Credits(values))
    assert high - low > 1.3 * (alone[1] - alone[0]), "questions of an image are alike"


def test_bootstrap_weighted_credits_match_sklearn_f1() -> None:
    """F1 in two categories that share their images, of two models on the same resamples."""
    rng = np.random.default_rng(0)
    n = 50
    true = rng.uniform(size=(2, n)) < 0.5
    said = [np.where(rng.uniform(size=(2, n)) < keeps, true, ~true) for keeps in (0.85, 0.7)]
    groups = [category for category in "ab" for _ in range(n)]
    images = [str(image) for _ in "ab" for image in range(n)]

    models = [
        Credits((s & true).ravel().tolist(), groups, (s * 1.0 + true).ravel().tolist(), images)
        for s in said
    ]
    for model, s in zip(models, said, strict=True):
        f1 = [f1_score(t, answers) for t, answers in zip(true, s, strict=True)]
        assert model.score() == pytest.approx(np.mean(f1))

    def mean_f1(s: np.ndarray, drawn: np.ndarray) -> float:
        hits, yes = (s & true)[:, drawn].sum(axis=1), (s * 1 + true)[:, drawn].sum(axis=1)
        return float(np.mean(2 * hits / yes))

    theirs = stats.bootstrap(
        (np.arange(n),),
        lambda drawn: mean_f1(said[0], drawn) - mean_f1(said[1], drawn),
        vectorized=False,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    drawn = resampled_scores(*models, seed=4, resamples=RESAMPLES)
    difference = drawn[:, 0] - drawn[:, 1]
    found = theirs.confidence_interval
    assert difference.std() == pytest.approx(theirs.standard_error, rel=0.03)
    assert percentile_interval(difference) == pytest.approx((found.low, found.high), abs=0.008)


def test_bootstrap_of_two_items_is_binomial() -> None:
    drawn = resampled_scores(Credits([1.0, 0.0]), resamples=RESAMPLES)[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts / RESAMPLES == pytest.approx([0.25, 0.5, 0.25], abs=0.015)


def test_bootstrap_repeated_categories_keep_the_interval() -> None:
    """Three categories with the same images and answers leave as much open as one of them."""
    values = (np.random.default_rng(0).uniform(size=40) < 0.5).astype(float).tolist()
    images = [str(n) for n in range(40)]
    one = resampled_scores(Credits(values, units=images), seed=1)
    groups = [name for name in "abc" for _ in values]
    three = resampled_scores(Credits(values * 3, groups, units=images * 3), seed=1)
    assert three == pytest.approx(one)


def test_bootstrap_of_equal_models_has_zero_difference() -> None:
    rng = np.random.default_rng(0)
    model = Credits(rng.uniform(size=30).tolist(), weights=rng.uniform(size=30).tolist())
    drawn = resampled_scores(model, model)
    assert (drawn[:, 0] == drawn[:, 1]).all() and drawn[:, 0].std() > 0


def test_bootstrap_depends_on_its_seed() -> None:
    model = Credits(np.random.default_rng(0).uniform(size=50).tolist())
    assert interval(model, seed=1) == interval(model, seed=1)
    assert interval(model, seed=1) != interval(model, seed=2)
    assert interval(Credits([1.0] * 9)) == (1.0, 1.0)
    assert interval(Credits([1.0, 0.0], weights=[0.0, 0.0])) == (0.0, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        resampled_scores(Credits([]))
