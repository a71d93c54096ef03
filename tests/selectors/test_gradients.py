"""Selectors that read gradients, beside literal loops over the pool."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.main import main
from presel_lightning.data import Pool
from presel_lightning.errors import UserError
from presel_lightning.selectors import (
    DataInf,
    ForValue,
    Icons,
    InfluenceSpace,
    Less,
    Selector,
    Tive,
)
from presel_lightning.signals import Gradients, HeadGradients, Signals
from tests.conftest import fit_arguments
from tests.selectors.pools import Pair


def stored(pool: Pool, signals: Signals, kind: type[Gradients] = Gradients) -> np.ndarray:
    """Gradients of all samples, (N, q)."""
    everything, signal = np.arange(len(pool)), signals.of(kind)
    direction = signal.read(pool, everything, "direction").astype(np.float64)
    found: np.ndarray = direction * signal.read(pool, everything, "length").astype(float)[:, None]
    return found


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def scores(selector: Selector, pair: Pair) -> np.ndarray:
    pool, signals = pair
    found: np.ndarray = selector.select(pool, signals, 20, seed=0).score.astype(np.float64)
    return found


def test_datainf_is_minus_the_influence_of_the_literal_loop(pair: Pair) -> None:
    pool, signals = pair
    rows = stored(pool, signals)
    v = rows[pool.reference].mean(axis=0)
    expected = np.zeros(len(pool))
    for a, b in ((0, 3), (3, 8)):
        damping = 0.1 * (rows[:, a:b] ** 2).mean()
        h = np.zeros(b - a)
        for g in rows[:, a:b]:
            part = (v[a:b] @ g) / (damping + g @ g) * g
            h += (v[a:b] - part) / (len(rows) * damping)
        expected += rows[:, a:b] @ h
    free = ~pool.reference
    np.testing.assert_allclose(scores(DataInf(), pair)[free], expected[free], rtol=1e-6, atol=1e-9)


def test_datainf_without_hessian_is_the_inner_product(pair: Pair) -> None:
    pool, signals = pair
    rows, free = stored(pool, signals), ~pool.reference
    expected = rows @ rows[pool.reference].mean(axis=0)
    found = scores(DataInf("identity"), pair)
    np.testing.assert_allclose(found[free], expected[free], rtol=1e-9)


def test_for_value_is_the_inner_product_of_head_gradients(pair: Pair) -> None:
    pool, signals = pair
    rows, free = stored(pool, signals, HeadGradients), ~pool.reference
    expected = rows @ rows[pool.reference].mean(axis=0)
    np.testing.assert_allclose(scores(ForValue(), pair)[free], expected[free], rtol=1e-9)


def influence_on_tasks(pool: Pool, rows: np.ndarray) -> np.ndarray:
    """Mean cosine of each sample with the reference samples of each task, one pair at a time."""
    return np.array(
        [
            [
                np.mean([cosine(g, rows[v]) for v in np.flatnonzero(pool.reference & (pool.task == t))])
                for t in pool.tasks
            ]
            for g in rows
        ]
    )  # fmt: skip


def test_less_is_the_highest_mean_cosine_over_tasks(pair: Pair) -> None:
    pool, signals = pair
    expected = influence_on_tasks(pool, stored(pool, signals)).max(axis=1)
    free = ~pool.reference
    np.testing.assert_allclose(scores(Less(), pair)[free], expected[free], rtol=1e-9)


def with_checkpoints(pair: Pair, folder: Path, rates: list[float], file: bool) -> Pair:
    """The same gradients at the last of several checkpoints, others at those before.

    A sample and a validation sample have no finite gradient at the first.
    """
    pool, signals = pair
    known, made = signals.of(Gradients), Signals(folder).of(Gradients)
    columns = {name: known.column(name) for name in ("direction", "length", "norm", "loss")}
    rng = np.random.default_rng(3)
    sides = {"": len(pool), **({"validation_": 30} if file else {})}
    for number in range(len(rates)):
        for side, rows in sides.items():
            if number == 0 and not side:
                continue
            drawn = rng.normal(size=(rows, 8)).astype(np.float16)
            columns[made.at(number, f"{side}direction")] = drawn
            columns[made.at(number, f"{side}length")] = np.ones(rows, dtype=np.float32)
            if number == 1:
                columns[made.at(1, f"{side}length")][[4, 5]] = np.nan
    if file:
        columns["validation_task"] = np.array(["x", "y", "z"] * 10)
    has = np.ones(len(pool), dtype=bool)
    made.write(pool, has, columns, {"edges": [0, 3, 8], "rates": rates})
    return pool, Signals(folder)


@pytest.mark.parametrize("file", [False, True], ids=["reference", "file"])
def test_less_weighs_checkpoints_by_their_rates(file: bool, pair: Pair, tmp_path: Path) -> None:
    """By a loop over samples, tasks and checkpoints; what is not finite at one is in none."""
    rates = [3e-5, 1e-5, 0.0, 2e-5]
    pool, signals = with_checkpoints(pair, tmp_path / "signals", rates, file)
    signal = signals.of(Gradients)

    def rows(side: str) -> list[np.ndarray]:
        names = [signal.at(number, f"{side}direction") for number in (1, 2, 3, 0)]
        return [signal.column(name).astype(np.float64) for name in names]

    training, held = rows(""), rows("validation_" if file else "")
    task = signal.column("validation_task") if file else pool.task.astype(str)
    whole = np.arange(len(task)) if file else np.flatnonzero(pool.reference)
    whole = whole[~np.isin(whole, [4, 5])]
    found = scores(Less(), (pool, signals))
    for i in np.flatnonzero(~pool.reference)[::5]:
        of_tasks = []
        for name in sorted(set(task[whole])):
            own = whole[task[whole] == name]
            table = [
                rate * np.mean([cosine(given[i], others[v]) for v in own])
                for rate, given, others in zip(rates, training, held, strict=True)
            ]
            of_tasks.append(sum(table) / sum(rates))
        assert found[i] == pytest.approx(max(of_tasks), abs=1e-6)
    assert np.isnan(found[[4, 5]]).all()


def test_other_selectors_read_the_last_checkpoint(pair: Pair, tmp_path: Path) -> None:
    more = with_checkpoints(pair, tmp_path / "signals", [1.0, 2.0], file=False)
    for selector in (DataInf(), Icons(), Tive()):
        assert np.array_equal(scores(selector, more), scores(selector, pair), equal_nan=True)
    assert not np.array_equal(scores(Less(), more), scores(Less(), pair), equal_nan=True)


def test_icons_orders_by_votes_then_mean_influence(pair: Pair) -> None:
    pool, signals = pair
    free = np.flatnonzero(~pool.reference)
    table = influence_on_tasks(pool, stored(pool, signals))[free]
    votes = (table >= np.percentile(table, 80, axis=0)).sum(axis=1)
    order = sorted(range(len(free)), key=lambda i: (-votes[i], -table[i].mean(), pool.uid[free[i]]))
    found = scores(Icons(), pair)[free]
    assert np.argsort(-found, kind="stable").tolist() == order


def test_tive_values_samples_by_the_mean_cosine_in_their_task(pair: Pair) -> None:
    pool, signals = pair
    rows, found = stored(pool, signals), scores(Tive(), pair)
    for i in np.flatnonzero(~pool.reference)[::9]:
        own = pool.task_rows(pool.task[i])
        assert found[i] == pytest.approx(np.mean([cosine(rows[i], rows[j]) for j in own]))


def test_tive_shares_the_budget_by_mean_gradient_norms(pair: Pair) -> None:
    pool, signals = pair
    norm = signals.gradients(pool, np.arange(len(pool)), "norm")
    means = np.array([norm[pool.task == task].mean() for task in pool.tasks])
    chosen = Tive().select(pool, signals, 12, seed=0)
    assert list(chosen.task_weights.values()) == pytest.approx((means / means.sum()).tolist())
    wanted = 12 * means / means.sum()
    assert np.abs(np.array(list(chosen.budgets.values())) - wanted).max() < 1
    other = Tive().select(pool, signals, 12, seed=1)
    assert set(chosen.uids) != set(other.uids)  # it is a draw


def test_sharp_tive_selects_the_highest_values_of_each_task(pair: Pair) -> None:
    pool, signals = pair
    chosen = Tive(sharpness=1e9).select(pool, signals, 20, seed=0)
    picked = np.isin(pool.uid, chosen.uids)
    for task in pool.tasks:
        own = (pool.task == task) & ~pool.reference
        if (own & picked).any() and (own & ~picked).any():
            assert chosen.score[own & picked].min() >= chosen.score[own & ~picked].max()


@pytest.mark.parametrize("selector", [DataInf(), ForValue(), Icons(), InfluenceSpace(), Less()])
def test_validation_set_without_a_gradient_is_refused(
    selector: Selector, pair: Pair, tmp_path: Path
) -> None:
    pool, known = pair
    signals = Signals(tmp_path / "signals")
    everything = np.arange(len(pool))
    for kind in (Gradients, HeadGradients):
        columns = {name: known.of(kind).column(name) for name in ("direction", "length", "norm")}
        columns["length"] = np.where(pool.reference, np.nan, columns["length"])
        signals.of(kind).write(pool, everything >= 0, columns, {"edges": [0, 3, 8]})
    with pytest.raises(UserError, match="no sample of the validation set"):
        selector.select(pool, signals, 20, seed=0)
    assert len(Tive().select(pool, signals, 20, seed=0).uids) == 20  # reads none


def test_unknown_estimator_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"estimator 'hessian' is unknown; choose from datainf"):
        DataInf("hessian")  # type: ignore[arg-type]


def test_selectors_of_gradients_share_one_pass(pool_folder: Path, tmp_path: Path) -> None:
    """By the command line, with the test file of the pool as the validation set of one of them."""
    out = tmp_path / "run"
    small = ["--gradient_width", "256", "--data.block_size", "32"]
    made = {}
    for name in ("InfluenceSpace", "DataInf"):
        given = fit_arguments(pool_folder, out, "--selector", name)[1:]
        assert main(["select", *given, *small]) == 0
        rows = pq.read_table(out / "selection" / "selection.parquet").to_pylist()
        assert sum(row["selected"] for row in rows) == round(0.25 * len(rows))
        stages = json.loads((out / "run.json").read_text())["stages"]
        made[name] = stages["gradients"]["fingerprint"]
    assert len(set(made.values())) == 1
    validation = ["--validation", str(pool_folder / "test.json")]
    given = fit_arguments(pool_folder, out, "--selector", "Less")[1:]
    assert main(["select", *given, *small, *validation]) == 0
    stages = json.loads((out / "run.json").read_text())["stages"]
    assert stages["gradients"]["fingerprint"] not in made.values()
    assert (out / "signals" / "gradients" / "validation_task.npy").exists()
