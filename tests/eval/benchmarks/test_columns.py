from __future__ import annotations

import inspect

from presel_lightning.eval.benchmarks import offline
from presel_lightning.eval.benchmarks.columns import COLUMNS, JUDGE_KEY, column
from presel_lightning.eval.benchmarks.offline.base import OfflineBenchmark
from presel_lightning.eval.intervals.published import full_scores


def test_columns_match_the_published_tables() -> None:
    for pool in ("llava665k", "vision_flan"):
        assert [c.name for c in COLUMNS] == list(full_scores(f"published:{pool}"))
    assert all(c.task and c.metric and c.split and c.paper_split for c in COLUMNS)
    assert len({c.task for c in COLUMNS}) == len(COLUMNS) == 9


def test_offline_classes_are_named_after_their_column() -> None:
    found = {c.offline for c in COLUMNS if c.offline}
    assert found == set(offline.__all__) - {"GQA"}  # which the tables do not have
    for c in COLUMNS:
        if c.offline:
            benchmark = getattr(offline, c.offline)
            language = {"language": c.name[4:]} if c.offline == "MMBench" else {}
            assert benchmark("somewhere", **language).name == c.name


def test_offline_exports_every_benchmark_class() -> None:
    children = {c.__name__ for c in OfflineBenchmark.__subclasses__() if not inspect.isabstract(c)}
    assert children == set(offline.__all__)


def test_columns_with_a_judge_are_skipped_without_a_key() -> None:
    reasons = {c.name: why for c in COLUMNS if (why := c.skipped({}))}
    able = [c for c in COLUMNS if c.name not in reasons]
    assert set(reasons) == {c.name for c in COLUMNS if c.judge} == {"MMB-cn", "MM-Vet"}
    assert JUDGE_KEY in reasons["MM-Vet"] and "mmvet" in reasons["MM-Vet"]
    assert len(able) == 7
    assert not any(c.skipped({JUDGE_KEY: "x"}) for c in COLUMNS)
    assert column("SEED").metric == "seed_image"
