"""What every selector promises, found by itself for every newcomer."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from presel_lightning import selectors
from presel_lightning.data import Pool
from presel_lightning.errors import MissingSignalError
from presel_lightning.selectors import FromFile, Selector, SemDeDup
from presel_lightning.selectors.checks import check_weights
from presel_lightning.selectors.within import WITHIN
from presel_lightning.signals import Features, Signal, Signals
from tests.selectors.pools import Case, Pair, make_pair, make_pool, make_signals
from tests.selectors.weighted import Weighted

WITHIN_BY_CLASS = {rule.__name__: rule for rule in WITHIN.values()}
MIXED = {"a": 130, "b": 41, "single": 1, "twins": 12}
CASES = {
    "mixed": Case(MIXED),
    "no reference": Case(MIXED, reference=0),
    "one task": Case({"only": 60}),
    "one image": Case({"only": 1}, reference=0),
    "all reference": Case({"a": 3, "b": 1}, reference=1),
    "few a task": Case({"a": 1, "b": 2, "c": 3, "d": 6}, reference=5),
    "copies": Case({"a": 30, "b": 8}, copies=True),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Each case with its signals."""
    folder = tmp_path_factory.mktemp("contract")
    return {name: make_pair(folder / name, case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The mixed case, its records in another order."""
    folder = tmp_path_factory.mktemp("shuffled")
    pool = make_pool(folder / "pool", CASES["mixed"], seed=1)
    return pool, make_signals(folder / "signals", CASES["mixed"], pool)


@pytest.fixture(scope="module")
def near_copies(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A task of which every other image is a near copy of the one before it."""
    return make_pair(tmp_path_factory.mktemp("near"), Case({"only": 61}, near=True))


def concrete() -> list[type[Selector]]:
    """Every selector that ships, and one that returns training weights."""
    classes = [getattr(selectors, name) for name in selectors.__all__]
    shipped = [
        c
        for c in classes
        if inspect.isclass(c) and issubclass(c, Selector) and not inspect.isabstract(c)
    ]
    return [*shipped, Weighted]


def selector_cases() -> list[tuple[type[Selector], str]]:
    """Each selector with each case that it supports: some signals need a reference split."""
    return [
        (kind, name)
        for kind in concrete()
        for name, case in CASES.items()
        if case.reference or not any(Signal.known[need].on_reference for need in kind.needs)
    ]


def build(kind: type[Selector], folder: Path, pool: Pool, budget: int) -> Selector:
    if kind is not FromFile:
        return kind()
    (folder / "uids.txt").write_text("\n".join(pool.uid[~pool.reference][:budget]))
    return FromFile(str(folder / "uids.txt"))


def take_away(signals: Signals, name: str) -> None:
    path = signals.of(Signal.known[name]).path
    path.rename(path.with_name(f"no {name}"))


@pytest.mark.parametrize(
    ("kind", "case"), selector_cases(), ids=lambda v: getattr(v, "__name__", v)
)
@pytest.mark.parametrize("budget", [0, 1, 30, "everything", "more"])
def test_selector_meets_the_budget_and_skips_the_reference(
    kind: type[Selector], case: str, budget: int | str, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    pool, signals = pairs[case]
    available = int((~pool.reference).sum())
    asked = {"everything": available, "more": available + 7}.get(str(budget), budget)
    assert isinstance(asked, int)
    count = min(asked, available)
    chosen = build(kind, tmp_path, pool, asked).select(pool, signals, asked, seed=0)
    assert len(chosen.uids) == count == len(set(chosen.uids)) == sum(chosen.budgets.values())
    assert not pool.reference[pool.rows(chosen.uids)].any()
    assert list(chosen.budgets) == list(pool.tasks)
    check_weights(chosen, kind.__name__)
    pattern = (3.0, 1.0, 0.5) if kind is Weighted else (1.0,)
    rows = pool.rows(chosen.uids)
    assert chosen.weights.tolist() == [pattern[row % len(pattern)] for row in rows]
    for column in (chosen.score, chosen.cluster, chosen.rank, chosen.reason):
        assert len(column) == len(pool)
    assert (chosen.reason[pool.reference] == "reference split").all()
    assert np.isfinite(chosen.score[~pool.reference].astype(float)).all()


@pytest.mark.parametrize("budget", [1, 40, 150])
def test_selector_with_one_image_per_cluster_meets_the_budget(
    budget: int, pairs: dict[str, Pair]
) -> None:
    """Of the rules inside a task: test_part.py."""
    pool, signals = pairs["mixed"]
    chosen = SemDeDup(images_per_cluster=1).select(pool, signals, budget, seed=0)
    assert len(chosen.uids) == budget == len(set(chosen.uids))
    assert not pool.reference[pool.rows(chosen.uids)].any()


def skipping_near_duplicates(kind: type[Selector]) -> Selector:
    """A selector with the option `near_duplicates`, of its own or of its rule inside a task."""
    options = inspect.signature(kind).parameters
    if "within" in options:
        rule = WITHIN_BY_CLASS[options["within"].default]
        return kind(within=rule(near_duplicates=0.999))  # type: ignore[call-arg]
    # SemDeDup is this option: a near duplicate of an earlier image comes last
    return kind() if kind is SemDeDup else kind(near_duplicates=0.999)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: kind.__name__)
class TestContract:
    def test_selector_that_clusters_images_takes_near_duplicates_last(
        self, kind: type[Selector], near_copies: Pair, tmp_path: Path
    ) -> None:
        pool, signals = near_copies
        selector = build(kind, tmp_path, pool, 20)
        plain = selector.select(pool, signals, 20, seed=0)
        if (plain.cluster < 0).all() or Features.name not in selector.needs:
            return  # clusters nothing, or no images
        chosen = skipping_near_duplicates(kind).select(pool, signals, 20, seed=0)
        assert len(chosen.uids) == 20 == len(set(pool.rows(chosen.uids) // 2))

    def test_selector_same_seed_selects_the_same_samples(
        self, kind: type[Selector], pairs: dict[str, Pair], tmp_path: Path
    ) -> None:
        """On any number of threads."""
        pool, signals = pairs["mixed"]
        choices = []
        before = torch.get_num_threads()
        for threads in (1, 1, 2):
            torch.set_num_threads(threads)
            chosen = build(kind, tmp_path, pool, 40).select(pool, signals, 40, seed=3)
            choices.append(chosen.uids.tolist())
        torch.set_num_threads(before)
        assert choices[0] == choices[1] == choices[2]

    def test_selector_does_not_depend_on_row_order(
        self, kind: type[Selector], pairs: dict[str, Pair], shuffled: Pair, tmp_path: Path
    ) -> None:
        choices = [
            build(kind, tmp_path, pairs["mixed"][0], 40).select(*pair, 40, seed=0)
            for pair in (pairs["mixed"], shuffled)
        ]
        assert choices[0].uids.tolist() == choices[1].uids.tolist()
        np.testing.assert_array_equal(choices[0].score, choices[1].score)

    def test_selector_ties_are_broken_by_uid(
        self, kind: type[Selector], pairs: dict[str, Pair], tmp_path: Path
    ) -> None:
        """Of images that are all alike a task gives the first by uid, whatever it gives of it."""
        pool, signals = pairs["copies"]
        if Features.name not in kind.needs:
            return  # does not look at images
        chosen = build(kind, tmp_path, pool, 20).select(pool, signals, 20, seed=0)
        for task, count in chosen.budgets.items():
            rows = pool.task_rows(task)
            free = rows[~pool.reference[rows]]
            assert set(chosen.uids) & set(pool.uid[rows]) == set(pool.uid[free[:count]])

    def test_selector_missing_signal_is_named(
        self, kind: type[Selector], pairs: dict[str, Pair], tmp_path: Path
    ) -> None:
        pool, _ = pairs["mixed"]
        for missing in kind.needs:
            signals = make_signals(tmp_path / missing, CASES["mixed"], pool)
            take_away(signals, missing)
            with pytest.raises(MissingSignalError, match=f"signal `{missing}`.*needs"):
                kind().select(pool, signals, 10, seed=0)

    def test_selector_reads_only_the_signals_it_needs(
        self, kind: type[Selector], pairs: dict[str, Pair], tmp_path: Path
    ) -> None:
        pool, _ = pairs["mixed"]
        signals = make_signals(tmp_path / "signals", CASES["mixed"], pool)
        for name in set(Signal.known) - set(kind.needs):
            take_away(signals, name)
        chosen = build(kind, tmp_path, pool, 10).select(pool, signals, 10, seed=0)
        assert len(chosen.uids) == 10

    def test_selector_has_a_docstring_and_known_needs(self, kind: type[Selector]) -> None:
        assert kind.__doc__ and kind.__doc__.strip()
        assert set(kind.needs) <= set(Signal.known)
