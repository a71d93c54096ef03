"""What every weighting with every rule inside a task promises, found by itself for newcomers."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from presel_lightning.errors import UserError
from presel_lightning.records import Selection
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.selectors import PreSel, SizeBalanced
from presel_lightning.selectors.part import Part
from presel_lightning.selectors.weighting import WEIGHTINGS, TaskFacts, Weighting
from presel_lightning.selectors.within import WITHIN, Within
from presel_lightning.signals import Features, Signal
from tests.selectors.pools import Case, Pair, make_pair, make_pool, make_signals

SIZES = {"a": 130, "b": 41, "single": 1, "twins": 12}
CASES = {
    "mixed": Case(SIZES),
    "one task": Case({"only": 60}),
    "all reference": Case({"a": 3, "b": 1}, reference=1),
    "few a task": Case({"a": 1, "b": 2, "c": 3, "d": 6}, reference=5),
    "copies": Case({"a": 30, "b": 8}, copies=True),
}
RULES = sorted(set(WITHIN.values()), key=lambda kind: kind.__name__)
PAIRS = [
    (weighting, within, list(CASES)[(row + column) % len(CASES)])
    for row, weighting in enumerate(WEIGHTINGS.values())
    for column, within in enumerate(RULES)
]
"""Every weighting with every rule, each of both in every case."""
EACH = [(kind, RULES[row % len(RULES)]) for row, kind in enumerate(WEIGHTINGS.values())]
"""Every weighting with some rule, every rule with some weighting."""
PARTS: list[type[Part]] = [*WEIGHTINGS.values(), *RULES]


def name_of(value: object) -> str | None:
    return getattr(value, "__name__", None)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Each case with its signals."""
    folder = tmp_path_factory.mktemp("parts")
    return {name: make_pair(folder / name, case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The mixed case, its records in another order."""
    folder = tmp_path_factory.mktemp("shuffled")
    pool = make_pool(folder / "pool", CASES["mixed"], seed=1)
    return pool, make_signals(folder / "signals", CASES["mixed"], pool)


def few_images_a_cluster(kind: type[Within]) -> Within:
    """A rule with several clusters in a task of the tests, if it takes so many as it is told."""
    takes = "images_per_cluster" in inspect.signature(kind).parameters
    options: dict[str, Any] = {"images_per_cluster": 12} if takes else {}
    return kind(**options)


def test_pairs_leave_no_two_out() -> None:
    for one, other, sizes in (
        (0, 1, len(WEIGHTINGS) * len(RULES)),
        (0, 2, len(WEIGHTINGS) * len(CASES)),
        (1, 2, len(RULES) * len(CASES)),
    ):
        assert len({(pair[one], pair[other]) for pair in PAIRS}) == sizes
    assert {within for _, within in EACH} == set(RULES)


class TestCombinations:
    @pytest.mark.parametrize(("weighting", "within", "case"), PAIRS, ids=name_of)
    def test_budget_is_met_and_the_reference_left_alone(
        self,
        weighting: type[Weighting],
        within: type[Within],
        case: str,
        pairs: dict[str, Pair],
    ) -> None:
        pool, signals = pairs[case]
        available = int((~pool.reference).sum())
        method = PreSel(weighting(), few_images_a_cluster(within))
        for asked in (0, 30, available + 7):
            chosen = method.select(pool, signals, asked, seed=0)
            count = min(asked, available)
            assert (
                len(chosen.uids) == count == len(set(chosen.uids)) == sum(chosen.budgets.values())
            )
            assert not pool.reference[pool.rows(chosen.uids)].any()
            assert np.isfinite(chosen.score[~pool.reference].astype(float)).all()
            assert set(chosen.reason[pool.rows(chosen.uids)]) <= {within.reason}

    @pytest.mark.parametrize(("weighting", "within"), EACH, ids=name_of)
    def test_selection_follows_the_seed_not_threads_nor_order_of_records(
        self,
        weighting: type[Weighting],
        within: type[Within],
        pairs: dict[str, Pair],
        shuffled: Pair,
    ) -> None:
        before = torch.get_num_threads()
        found = set()
        for threads, pair in ((1, pairs["mixed"]), (2, shuffled)):
            torch.set_num_threads(threads)
            method = PreSel(weighting(), few_images_a_cluster(within))
            found.add(digest(method.select(*pair, 40, seed=3)))
        torch.set_num_threads(before)
        assert len(found) == 1

    @pytest.mark.parametrize(("weighting", "within"), EACH, ids=name_of)
    def test_asks_for_the_signals_of_both_and_no_others(
        self,
        weighting: type[Weighting],
        within: type[Within],
        pairs: dict[str, Pair],
        tmp_path: Path,
    ) -> None:
        pool, _ = pairs["mixed"]
        method = PreSel(weighting(), within())
        assert set(method.needs) == {*weighting.needs, *within.needs} <= set(Signal.known)
        assert len(method.needs) == len(set(method.needs))
        signals = make_signals(tmp_path / "signals", CASES["mixed"], pool)
        for name in set(Signal.known) - set(method.needs):
            path = signals.of(Signal.known[name]).path
            path.rename(path.with_name(f"no {name}"))
        assert len(method.select(pool, signals, 10, seed=0).uids) == 10


@pytest.mark.parametrize("within", RULES, ids=name_of)
class TestEveryRule:
    def test_one_image_a_cluster(self, within: type[Within], pairs: dict[str, Pair]) -> None:
        if "images_per_cluster" not in inspect.signature(within).parameters:
            return  # has as many clusters as it likes: above
        options: dict[str, Any] = {"images_per_cluster": 1}
        chosen = PreSel("size", within(**options)).select(*pairs["mixed"], 40, seed=0)
        assert len(chosen.uids) == 40 == len(set(chosen.uids))

    def test_select_alone_meets_the_budget_among_available_rows(
        self, within: type[Within], pairs: dict[str, Pair]
    ) -> None:
        pool, signals = pairs["mixed"]
        rows = pool.task_rows("a")
        features = torch.from_numpy(signals.features(pool, rows))
        excluded = torch.from_numpy(pool.reference[rows])
        available = int((~excluded).sum())
        for budget in (0, 1, 17, available, available + 5):
            found = few_images_a_cluster(within).select(features, budget, excluded, seed=0)
            assert len(found.rows) == min(budget, available)
            assert found.rows.tolist() == sorted(set(found.rows.tolist()))
            assert not excluded[found.rows].any()
            assert torch.equal(found.score.isnan(), excluded)
            assert torch.equal(found.rank < 0, excluded)
        fraction = few_images_a_cluster(within).select(features, 7.5, excluded, "floor", seed=0)
        assert len(fraction.rows) <= 7

    def test_size_balanced_takes_it_too(self, within: type[Within], pairs: dict[str, Pair]) -> None:
        pool, signals = pairs["one task"]
        one = SizeBalanced(few_images_a_cluster(within)).select(pool, signals, 20, seed=0)
        other = PreSel("size", few_images_a_cluster(within)).select(pool, signals, 20, seed=0)
        assert digest(one) == digest(other)


@pytest.mark.parametrize("kind", PARTS, ids=name_of)
class TestEveryPart:
    def test_fingerprint_covers_every_option(self, kind: type[Part]) -> None:
        """An option of a part changes the fingerprint of the selector that holds it."""
        plain = selector_fingerprint(kind())
        assert plain == selector_fingerprint(kind())
        for name, value in other_options(kind):
            assert selector_fingerprint(kind(**{name: value})) != plain, name

    def test_short_name_and_class_name_are_the_class_with_its_defaults(
        self, kind: type[Part]
    ) -> None:
        known = WEIGHTINGS if issubclass(kind, Weighting) else WITHIN
        names = [name for name, found in known.items() if found is kind]
        for name in (*names, kind.__name__):
            assert selector_fingerprint(name) == selector_fingerprint(kind())

    def test_says_what_it_is_and_what_its_options_are(self, kind: type[Part]) -> None:
        assert kind.__doc__ and kind.__doc__.strip()
        explained = " ".join(base.__doc__ or "" for base in kind.__mro__)
        assert all(f"{name}: " in explained for name in inspect.signature(kind).parameters)


def selector_fingerprint(part: Any) -> str:
    """Of a PreSel with this part."""
    known = {*WEIGHTINGS, *(rule.__name__ for rule in WEIGHTINGS.values())}
    weighs = isinstance(part, Weighting) or part in known
    method = PreSel(weighting=part) if weighs else PreSel(within=part)
    return fingerprint(method.fingerprint())


def other_options(kind: type[Part]) -> Iterator[tuple[str, object]]:
    """Every option of a class with a value that is not its default."""
    values = {"bool": True, "int": 7, "float": 0.3, "dict": {"a": 2.0}}
    for name, parameter in inspect.signature(kind).parameters.items():
        kinds = [value for word, value in values.items() if word in str(parameter.annotation)]
        if kinds:
            yield name, kinds[0]


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"weighting 'irrs' is unknown; choose from irs, size, sqrt_"
    ):
        PreSel(weighting="irrs")
    with pytest.raises(
        UserError, match=r"within 'medoid' is unknown; choose from centrality, nc, "
    ):
        PreSel(within="medoid")
    with pytest.raises(
        UserError, match=r"within 'nearest' is unknown; choose from centrality, nc, "
    ):
        SizeBalanced(within="nearest")


class LargestFirst(Weighting):
    """Everything to the largest task: a rule from outside the package."""

    needs = ()

    def weights(self, facts: TaskFacts, budget: int) -> torch.Tensor:
        """1 for the largest."""
        return (facts.sizes == facts.sizes.max()).double()


def test_weighting_of_ones_own_is_a_class(pairs: dict[str, Pair]) -> None:
    method = PreSel(LargestFirst())
    assert method.needs == (Features.name,)
    assert method.select(*pairs["mixed"], 20, seed=0).budgets == {
        "a": 20,
        "b": 0,
        "single": 0,
        "twins": 0,
    }


def digest(selection: Selection) -> str:
    """Hash of what was selected, with the cluster and rank of every sample."""
    columns = (selection.uids, selection.cluster, selection.rank)
    text = json.dumps([[str(value) for value in column] for column in columns])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
