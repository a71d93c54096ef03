"""What every selector promises, found by itself for every newcomer."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from presel_lightning import selectors
from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.errors import MissingSignalError
from presel_lightning.selectors import FromFile, Selector
from presel_lightning.signals import FEATURES, PAIRED_LOSS, Signals

SIZES = {"a": 130, "b": 41, "single": 1, "twins": 12}


def make_pool(folder: Path, seed: int | None = None) -> Pool:
    """A pool of small images; rows shuffled if there is a seed."""
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "x.png")
    turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    records = [
        {"id": f"{task}{i}", "image": "x.png", "task": task, "conversations": turns}
        for task, size in SIZES.items()
        for i in range(size)
    ]
    if seed is not None:
        np.random.default_rng(seed).shuffle(records)
    (folder / "a.json").write_text(json.dumps(records))
    build_pool(source(str(folder / "a.json")), folder)
    return load_pool(folder, folder)


def make_signals(folder: Path, pool: Pool) -> Signals:
    """Features by uid (twins share theirs) and an IRS for each reference sample."""
    signals = Signals(folder)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(len(pool), 16)).astype(np.float32)
    by_id = dict(zip(sorted(pool.id), table, strict=True))
    features = np.stack([by_id[name] for name in pool.id])
    features[pool.task == "twins"] = 1.0
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    signals.write_features(pool.uid, features, np.arange(len(pool)), {})
    rows = np.flatnonzero(pool.reference)
    relevance = 0.3 + 0.1 * np.asarray([pool.tasks.index(task) for task in pool.task[rows]])
    signals.write_paired_loss(
        pa.table(
            {"uid": pool.uid[rows].tolist(), "task": pool.task[rows].tolist(), "irs": relevance}
        )
    )
    return signals


def referenced(pool: Pool) -> Pool:
    chosen = sorted(pool.id)[::9]
    return pool.with_reference(pool.uid[np.isin(pool.id, chosen)])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return referenced(make_pool(tmp_path_factory.mktemp("contract") / "pool"))


@pytest.fixture(scope="module")
def signals(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Signals:
    return make_signals(tmp_path_factory.mktemp("signals"), pool)


def concrete() -> list[type[Selector]]:
    classes = [getattr(selectors, name) for name in selectors.__all__]
    return [
        c
        for c in classes
        if inspect.isclass(c) and issubclass(c, Selector) and not inspect.isabstract(c)
    ]


def build(kind: type[Selector], folder: Path, pool: Pool, budget: int) -> Selector:
    if kind is not FromFile:
        return kind()
    (folder / "uids.txt").write_text("\n".join(pool.uid[~pool.reference][:budget]))
    return FromFile(str(folder / "uids.txt"))


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: kind.__name__)
class TestContract:
    @pytest.mark.parametrize("budget", [1, 30, 90, None])
    def test_budget_is_exact_and_the_reference_left_alone(
        self, kind: type[Selector], budget: int | None, pool: Pool, signals: Signals, tmp_path: Path
    ) -> None:
        available = int((~pool.reference).sum())
        count = available if budget is None else budget
        chosen = build(kind, tmp_path, pool, count).select(pool, signals, count, seed=0)
        assert len(chosen.uids) == count == len(set(chosen.uids)) == sum(chosen.budgets.values())
        assert not pool.reference[pool.rows(chosen.uids)].any()
        assert len(chosen.weights) == count
        for column in (chosen.score, chosen.cluster, chosen.rank, chosen.reason):
            assert len(column) == len(pool)

    def test_same_seed_same_choice(
        self, kind: type[Selector], pool: Pool, signals: Signals, tmp_path: Path
    ) -> None:
        first, second = (
            build(kind, tmp_path, pool, 40).select(pool, signals, 40, seed=3) for _ in range(2)
        )
        assert first.uids.tolist() == second.uids.tolist()

    def test_the_order_of_the_rows_does_not_matter(
        self, kind: type[Selector], pool: Pool, signals: Signals, tmp_path: Path
    ) -> None:
        shuffled = referenced(make_pool(tmp_path / "pool", seed=1))
        other = make_signals(tmp_path / "signals", shuffled)
        first = build(kind, tmp_path, pool, 40).select(pool, signals, 40, seed=0)
        second = build(kind, tmp_path, pool, 40).select(shuffled, other, 40, seed=0)
        assert first.uids.tolist() == second.uids.tolist()

    def test_a_missing_signal_is_named(
        self, kind: type[Selector], pool: Pool, tmp_path: Path
    ) -> None:
        if kind.needs:
            with pytest.raises(MissingSignalError, match="needs"):
                kind().select(pool, Signals(tmp_path), 10, seed=0)
        else:
            chosen = build(kind, tmp_path, pool, 10).select(pool, Signals(tmp_path), 10, seed=0)
            assert len(chosen.uids) == 10

    def test_says_what_it_is_and_needs(self, kind: type[Selector]) -> None:
        assert kind.__doc__ and kind.__doc__.strip()
        assert set(kind.needs) <= {FEATURES, PAIRED_LOSS}
