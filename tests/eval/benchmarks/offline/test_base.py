"""What every reader keeps of its items gives its score, and so the score has its interval."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from presel_lightning.callbacks.benchmark import as_json
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks import offline
from presel_lightning.eval.benchmarks.base import Score
from presel_lightning.eval.benchmarks.offline.base import OfflineBenchmark
from presel_lightning.eval.intervals.resampling import paired_intervals, read_kept, score_intervals

READERS = sorted(offline.__all__)
MOST = {"MME": 2000.0}
SAID = ["yes", "no", "A", "B", "C", "woman", "overcast", "dakota", "10:10", "noon", ""]


@pytest.fixture(params=READERS)
def benchmark(request: pytest.FixtureRequest) -> OfflineBenchmark:
    files = request.getfixturevalue(request.param.lower())
    found: OfflineBenchmark = getattr(offline, request.param)(str(files))
    return found


def details(name: str, **arms: Score) -> dict[str, dict[str, Any]]:
    return {arm: {"benchmarks": {name: as_json(score)}} for arm, score in arms.items()}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_item_credits_reproduce_the_score_and_its_interval(
    benchmark: OfflineBenchmark, data: st.DataObject
) -> None:
    right = [item.answer for item in benchmark.items()]
    said = [data.draw(st.sampled_from([answer, *SAID])) for answer in right]
    score = benchmark.score(said)
    assert score.items is not None and score.item_ids is not None
    assert len(set(score.item_ids)) == len(score.items) and min(score.items) >= 0
    part = as_json(score)
    kept = read_kept({"benchmarks": {"b": part}})["b"]
    assert kept.scale * kept.credits.score() == pytest.approx(score.score, abs=1e-4)
    found = details("b", final=score, random=score, full=benchmark.score(right))
    low, high = score_intervals(found)["final"]["b"]
    assert -1e-3 <= low <= high <= score.scale + 1e-3
    same, against_full = paired_intervals(found)
    assert (same["difference"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    assert against_full["difference"] == pytest.approx(
        score.score - MOST.get(benchmark.column, 100.0), abs=1e-3
    )


def test_all_correct_answers_score_the_maximum(benchmark: OfflineBenchmark) -> None:
    score = benchmark.score([item.answer for item in benchmark.items()])
    assert score.score == score.scale == MOST.get(benchmark.column, 100.0)
    assert score_intervals(details("b", final=score))["final"]["b"][1] == score.scale


def test_paired_intervals_skip_different_items(benchmark: OfflineBenchmark) -> None:
    score = benchmark.score([item.answer for item in benchmark.items()])
    found = details("b", final=score, full=score)
    assert score.item_ids is not None and len(paired_intervals(found)) == 1
    found["full"]["benchmarks"]["b"]["item_ids"] = ["another", *score.item_ids[1:]]
    assert paired_intervals(found) == []


@pytest.mark.parametrize("reader", ["POPE", "TextVQA"])
def test_images_behind_links_are_read_on_request(
    reader: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = request.getfixturevalue(reader.lower())
    kind = getattr(offline, reader)
    plain = kind(str(files))
    root = tmp_path_factory.mktemp("linked")
    for path in plain.root().iterdir():
        (root / path.name).symlink_to(path.resolve())
    with pytest.raises(UserError, match=r"below .*linked.*link.*follow_links: true"):
        kind(str(files), image_root=str(root)).items()
    assert kind(str(files), image_root=str(root), follow_links=True).items() == plain.items()
