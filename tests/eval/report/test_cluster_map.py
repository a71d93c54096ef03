from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from presel_lightning.eval.report import cluster_map
from presel_lightning.eval.report.cluster_map import project, read_maps
from presel_lightning.eval.report.samples import read_samples
from tests.eval.report.runs import write_samples


@given(st.integers(3, 40), st.integers(2, 20), st.integers(0, 99))
def test_project_matches_scikit_learn_pca(n: int, d: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(3, 1, d) + 5
    points, kept = project(x)
    theirs = PCA(2).fit(x)
    expected = theirs.transform(x)
    expected *= np.sign(expected[np.abs(expected).argmax(0), [0, 1]])
    assert np.allclose(points, expected, atol=1e-6)
    assert kept == pytest.approx(theirs.explained_variance_ratio_.sum())


@pytest.mark.parametrize("x", [np.ones((1, 4)), np.ones((5, 4)), np.ones((4, 1)) * 0.1])
def test_project_degenerate_rows_map_to_one_point(x: np.ndarray) -> None:
    points, kept = project(x)
    assert points.shape == (len(x), 2) and not points.any() and kept == 1.0


def test_read_maps_holds_every_task_joined_on_uid(tmp_path: Path) -> None:
    table = write_samples(tmp_path, {"b": 300, "a": 40, "one": 1})
    samples = read_samples(tmp_path)
    assert samples is not None
    maps = read_maps(tmp_path, samples)
    assert [found["task"] for found in maps] == ["a", "b", "one"]
    rows = {row["uid"]: row for row in table.to_pylist()}
    large = maps[1]
    points = large["points"]
    assert large["size"] == 300 == len(points["uid"]) and large["clusters"] == 3
    assert large["chosen"] == 30 and large["reference"] == 15
    for i, uid in enumerate(points["uid"]):
        row = rows[uid]
        assert points["cluster"][i] == row["cluster"]
        assert (points["kind"][i] > 0) == row["selected"]
        assert points["score"][i] == (None if row["score"] is None else round(row["score"], 5))
    # the clusters lie apart: their means differ by more than their spread
    xy = np.array([points["x"], points["y"]]).T
    cluster = np.array(points["cluster"])
    means = np.array([xy[cluster == c].mean(0) for c in range(3)])
    spread = max(float(xy[cluster == c].std()) for c in range(3))
    gaps = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(3, 1)]
    assert gaps.min() > 50 and xy.min() == 0 and xy.max() == 1000 and spread < 1000


def test_read_maps_subsamples_points_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(tmp_path, {"a": 300, "b": 20})
    samples = read_samples(tmp_path)
    assert samples is not None
    monkeypatch.setattr(cluster_map, "IN_ALL", 100)
    one, again, other = (read_maps(tmp_path, samples, seed) for seed in (1, 1, 2))
    assert [len(found["points"]["uid"]) for found in one] == [50, 20]
    assert one == again and one[0]["points"]["uid"] != other[0]["points"]["uid"]
    assert one[0]["size"] == 300


def test_read_maps_features_of_another_pool_give_no_map(tmp_path: Path) -> None:
    write_samples(tmp_path, {"a": 30})
    samples = read_samples(tmp_path)
    assert samples is not None
    path = tmp_path / "signals" / "features" / "uid.npy"
    uids = np.load(path)
    np.save(path, np.where(np.arange(30) == 3, b"f" * 32, uids))
    assert read_maps(tmp_path, samples) == []
    path.unlink()
    assert read_maps(tmp_path, samples) == []
