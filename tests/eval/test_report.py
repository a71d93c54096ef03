"""A small run folder of real files goes in; a page and the same figures come out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from presel_lightning.eval.relative import benchmark_table
from presel_lightning.eval.report import print_summary, write_report
from presel_lightning.eval.verdict import verdict
from tests.eval.runs import write_ledger, write_samples, write_tasks

TASK_COLUMNS = "task,size,reference,irs_mean,irs_sem,undefined,weight,budget,selected".split(",")  # noqa: SIM905
HOSTILE = "<script>alert(1)</script>"
TASKS = ["colour", "count", "ocr & digits", "position", "caption", HOSTILE]
SIZES = [120, 100, 80, 80, 60, 40]
BUDGETS = [6, 12, 10, 9, 7, 4]
REFERENCE = [6, 5, 4, 4, 3, 2]
ARM_TASKS = {
    "final": [62.5, 40.0, 55.0, 47.5, 30.0, 70.0],
    "full": [90.0, 62.5, 75.0, 70.0, 47.5, 85.0],
    "random": [67.5, 42.5, 52.5, 50.0, 35.0, 72.5],
    "untrained": [20.0, 12.5, 0.0, 10.0, 2.5, 30.0],
}
SECONDS = {
    "pool": 0.41,
    "split": 0.02,
    "reference": 3.25,
    "losses": 1.5,
    "features": 2.25,
    "selection": 0.5,
    "instructions": 0.03,
    "final": 9.75,
    "random": 9.5,
    "full": 61.25,
    "benchmarks": 4.0,
}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_run(out: Path) -> None:
    """The files that a finished run leaves, 480 images in six tasks."""
    samples = {"reference": 24, "final": 72, "random": 72, "full": 480}
    stages: dict[str, dict[str, Any]] = {
        name: {
            "status": "done",
            "fingerprint": "0123456789abcdef",
            "seconds": seconds,
            "peak_memory_mb": 512.5,
            "artifact": "x",
            "device": "cpu",
            **(
                {"samples": samples[name], "instructions": samples[name]} if name in samples else {}
            ),
        }
        for name, seconds in SECONDS.items()
    }
    counts = {"pool": 480, "text_only": 3, "problems": 2, "tasks": 6}
    counts |= {"reference": 24, "selected": 48, "trained_on": 72}
    run = {"seed": 7, "state": "done", "versions": {"torch": "2.13.0"}, "counts": counts}
    write_json(out / "run.json", {**run, "selector": "PreSel", "stages": stages})
    details = {
        arm: {"shapes": {"score": mean(s), "tasks": dict(zip(TASKS, s)), "n": 240, "seconds": 1.0}}
        for arm, s in ARM_TASKS.items()
    }
    for arm, benchmarks in details.items():
        write_json(out / "work/scores" / f"{arm}.json", {"key": "k", "benchmarks": benchmarks})
    table = benchmark_table({arm: {"shapes": mean(s)} for arm, s in ARM_TASKS.items()})
    write_json(out / "benchmark.json", table)
    write_selection(out)
    (out / "config.yaml").write_text("seed_everything: 7\nselector: PreSel  # <b>\n")
    with (out / "problems.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "image", "task", "problem", "detail"])
        writer.writerow(["a1", "a/1.jpg", "count", "image missing", "no such file"])
        writer.writerow(["a2", "a/2.jpg", HOSTILE, "image missing", "<img src=x>"])


def write_selection(out: Path) -> None:
    rng = np.random.default_rng(0)
    (out / "selection").mkdir()
    (out / "signals").mkdir()
    task = np.repeat(TASKS, SIZES)
    score = rng.normal(0.8, 0.05, len(task))
    selected = np.zeros(len(task), dtype=bool)
    start = 0
    for size, reference, budget in zip(SIZES, REFERENCE, BUDGETS):
        score[start : start + reference] = np.nan
        selected[start : start + reference] = True
        best = start + reference + np.argsort(-score[start + reference : start + size])[:budget]
        selected[best] = True
        start += size
    columns = {"task": task.tolist(), "score": score.tolist(), "selected": selected.tolist()}
    pq.write_table(pa.table(columns), out / "selection" / "selection.parquet")
    with_question, without = rng.uniform(0.1, 1, 24), rng.uniform(1, 3, 24)
    with_question[0] = np.inf  # a loss that is not finite stays out of the mean
    columns = {
        "task": np.repeat(TASKS, REFERENCE).tolist(),
        "loss_with_question": with_question.tolist(),
        "loss_without_question": without.tolist(),
    }
    pq.write_table(pa.table(columns), out / "signals" / "paired_loss.parquet")
    with (out / "selection" / "tasks.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(TASK_COLUMNS)
        for i, name in enumerate(TASKS):
            irs = ["", ""] if i == 5 else [0.2 + 0.1 * i, 0.01]
            weight = BUDGETS[i] / 48
            row = [name, SIZES[i], REFERENCE[i], *irs, int(i == 0), weight, BUDGETS[i]]
            writer.writerow([*row, REFERENCE[i] + BUDGETS[i]])


class Page(HTMLParser):
    """Text of the page's table cells and headings, and everything that would load a resource."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "srcset", "data") or (name == "href" and tag != "a"):
                self.loads.append(str(value))

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path)
    return tmp_path


def report_of(out: Path) -> tuple[dict[str, Any], str]:
    page = write_report(out)
    assert page == out / "report" / "index.html"
    return json.loads((out / "report" / "report.json").read_text()), page.read_text()


def test_figures_are_those_of_the_files(run: Path) -> None:
    report, _ = report_of(run)
    arms = {row["arm"]: row for row in report["arms"]}
    assert list(arms) == ["final", "full", "random", "untrained"]
    for arm, scores in ARM_TASKS.items():
        assert arms[arm]["scores"] == {"shapes": mean(scores)}
        assert arms[arm]["relative"] == pytest.approx(100 * mean(scores) / mean(ARM_TASKS["full"]))
        for task, score in zip(TASKS, scores):
            assert report["task_scores"]["shapes"][task][arm] == score
    assert [arms[a]["samples"] for a in arms] == [72, 480, 72, 0]
    assert arms["full"]["seconds"] == 61.25 and arms["full"]["gpu_hours"] is None
    assert report["cost"]["choosing_seconds"] == pytest.approx(3.25 + 1.5 + 2.25 + 0.5)
    assert [row["budget"] for row in report["tasks"]] == BUDGETS
    assert report["tasks"][5]["irs_mean"] is None and report["tasks"][0]["undefined"] == 1
    assert [row["stage"] for row in report["stages"]] == list(SECONDS)
    assert report["problems"]["total"] == 2 and report["problems"]["kinds"] == {"image missing": 2}
    assert report["seed"] == 7 and report["counts"]["pool"] == 480


def test_signals_are_summed_up_rightly(run: Path) -> None:
    report, _ = report_of(run)
    rows = pq.read_table(run / "signals" / "paired_loss.parquet").to_pylist()
    for found in report["losses"]:
        mine = [
            r for r in rows if r["task"] == found["task"] and np.isfinite(r["loss_with_question"])
        ]
        assert found["samples"] == len(mine)
        assert found["with_question"] == pytest.approx(
            mean([r["loss_with_question"] for r in mine])
        )
        literal = mean([r["loss_without_question"] for r in mine])
        assert found["without_question"] == pytest.approx(literal)
    scores = report["score_histogram"]
    assert sum(scores["chosen"]) == 48 and sum(scores["left_out"]) == 480 - 72
    assert len(scores["edges"]) == len(scores["chosen"]) + 1


def test_gpu_hours_are_counted_on_gpus(run: Path) -> None:
    ledger = json.loads((run / "run.json").read_text())
    ledger["stages"]["final"] |= {"device": "cuda", "devices": 4, "seconds": 1800.0}
    write_json(run / "run.json", ledger)
    report, html = report_of(run)
    assert {row["arm"]: row["gpu_hours"] for row in report["arms"]}["final"] == 2.0
    assert "GPU-hours" in html


def test_page_is_self_contained_and_escapes(run: Path) -> None:
    report, html = report_of(run)
    page = Page(html)
    assert page.loads == [] and "@import" not in html and "url(" not in html
    assert "<link" not in html and "<img" not in html
    assert page.tags.count("script") == 1  # our own; the task of that name is text
    assert len(page.ids) == len(set(page.ids))
    for task in TASKS:
        assert task in page.text
    assert page.tags.count("svg") == 6 == html.count('role="img"')
    assert page.tags.count("table") == page.tags.count("caption") == 5
    for sentence in [report["headline"], *report["verdict"]]:
        assert sentence in page.text
    assert "selector: PreSel  # &lt;b&gt;" in html


def test_a_loss_is_said_plainly(run: Path) -> None:
    report, _ = report_of(run)
    gap = mean(ARM_TASKS["random"]) - mean(ARM_TASKS["final"])
    assert report["verdict"][0].startswith("PreSel lost to random choice")
    assert f"by {gap:.1f} points (50.8 against 53.3)" in report["verdict"][0]
    ours, theirs = 50.8333 / 100, 53.3333 / 100
    margin = 196 * ((ours * (1 - ours) + theirs * (1 - theirs)) / 240) ** 0.5
    assert f"about {margin:.1f} points" in report["verdict"][1]
    assert "settles nothing" in report["verdict"][1]
    assert "One seed cannot resolve small differences" in report["verdict"][2]
    assert report["headline"] == (
        "72 of 480 images in 6 tasks were chosen (15.0 %): "
        "24 at random for the reference split, 48 by PreSel."
    )


def row(arm: str, scores: dict[str, float | None], relative: float | None = None) -> dict[str, Any]:
    return {"arm": arm, "scores": scores, "relative": relative, "instructions": 15}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [row("final", {"b": 60.0}), row("random", {"b": 50.0})],
            "beat random choice .* 10.0 points",
        ),
        ([row("final", {"b": 60.0}), row("random", {"b": 60.01})], "came out equal"),
        ([row("final", {"b": 60.0})], "cannot show that choosing with Mine"),
        ([row("final", {"b": None})], "quality is not known"),
        ([row("final", {"b": 5.0}, 105.0)], "15.0 % of the instructions.*no proof"),
        (
            [row("final", {"a": 1.0, "b": 2.0}, 97.9), row("random", {"a": 1.0, "b": 1.9}, 95.7)],
            "beat random choice .* 2.2 points of relative performance",
        ),
        (
            [row("final", {"a": 1.0, "b": 2.0}), row("random", {"a": 3.0, "b": 1.0})],
            "above random choice on 1 and below it on 1 of 2",
        ),
        (
            [row("final", {"b": 9.0}), row("full", {"b": 3.0}), row("untrained", {"b": 3.0})],
            "cannot tell one choice from another",
        ),
        (
            [row("final", {"b": 2.0}), row("untrained", {"b": 3.0})],
            "not better than the untrained one",
        ),
    ],
)
def test_verdicts(rows: list[dict[str, Any]], said: str) -> None:
    report = {"state": "done", "selector": "Mine", "arms": rows, "test_items": {}, "paired": []}
    assert re.search(said, " ".join(verdict({**report, "counts": {"pool": 100}})))


def drop(*names: str) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        for name in names:
            (out / name).unlink()

    return change


def only_the_ledger(out: Path) -> None:
    for path in out.rglob("*"):
        if path.is_file() and path.name != "run.json":
            path.unlink()
    write_json(out / "run.json", {"stages": {}})


def without_irs(out: Path) -> None:
    (out / "signals" / "paired_loss.parquet").unlink()
    path = out / "selection" / "tasks.csv"
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(r | {"irs_mean": "", "irs_sem": "", "weight": ""} for r in rows)


@pytest.mark.parametrize(
    ("change", "charts"),
    [
        (drop("benchmark.json"), 5),
        (drop("selection/tasks.csv", "selection/selection.parquet"), 3),
        (drop("problems.csv", "config.yaml"), 6),
        (without_irs, 5),
        (only_the_ledger, 0),
    ],
)
def test_a_partial_run_gives_a_smaller_page(
    run: Path, change: Callable[[Path], None], charts: int
) -> None:
    change(run)
    _, html = report_of(run)
    page = Page(html)
    assert page.tags.count("svg") == charts
    assert page.tags[-1] == "script" and "None" not in page.text


def test_an_arm_left_out_says_why(run: Path) -> None:
    for name in ("work/scores/full.json", "work/scores/random.json"):
        (run / name).unlink()
    table = json.loads((run / "benchmark.json").read_text())
    arms = {name: {**table[name], "relative": None} for name in ("final", "untrained")}
    write_json(run / "benchmark.json", arms)
    ledger = json.loads((run / "run.json").read_text())
    ledger["arms_left_out"] = {"full": "408 of its 480 images have no instruction"}
    del ledger["stages"]["full"], ledger["stages"]["random"]
    write_json(run / "run.json", ledger)
    report, html = report_of(run)
    assert "408 of its 480 images have no instruction" in html
    assert [row["arm"] for row in report["arms"]] == ["final", "full", "untrained"]
    assert report["arms"][0]["relative"] is None
    assert "cannot show" in report["verdict"][0]


def test_a_waiting_run_says_what_it_waits_for(run: Path) -> None:
    drop("benchmark.json")(run)
    write_json(run / "run.json", {"state": "waiting", "selector": "PreSel", "stages": {}})
    report, html = report_of(run)
    assert "waits for instructions" in report["verdict"][0] and "state: waiting" in html


def test_summary_prints_table_and_verdict(run: Path) -> None:
    report, _ = report_of(run)
    console = Console(width=120, record=True, quiet=False, file=(run / "screen").open("w"))
    print_summary(run, console)
    text = console.export_text()
    assert report["headline"] in text and report["verdict"][0] in " ".join(text.split())
    assert re.search(r"PreSel \(final\) .* 72 .* 50\.8 .* 70\.9 ", text)
    assert str(run / "report" / "index.html") in "".join(text.split())


def test_many_tasks_are_all_in_the_table_and_few_in_the_charts(run: Path) -> None:
    with (run / "selection" / "tasks.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(TASK_COLUMNS)
        writer.writerows(
            [f"task-{i:03d}", 10 + i, 1, 0.5, 0.1, 0, 1 / 191, 1, 2] for i in range(191)
        )
    report, html = report_of(run)
    assert len(report["tasks"]) == 191
    assert all(f'title="task-{i:03d}"' in html for i in range(191))
    assert html.count("task-000") < html.count("task-190")
    assert "the 24 largest tasks" in html


def explored(html: str) -> Any:
    """The data that the page's script works with."""
    return json.loads(html.split('id="explore">')[1].split("</script>")[0])


def test_map_and_gallery_are_in_the_page(tmp_path: Path) -> None:
    write_tasks(tmp_path, write_samples(tmp_path, {HOSTILE: 120, "b": 80}))
    write_ledger(tmp_path)
    page = write_report(tmp_path, tmp_path)
    html, report = page.read_text(), json.loads((page.parent / "report.json").read_text())
    data = explored(html)
    assert [found["task"] for found in data["maps"]] == [HOSTILE, "b"]
    assert data["items"] and all(item["picture"] is not None for item in data["items"])
    assert len(data["pictures"]) == 8 == len(set(data["pictures"]))  # each image is there once
    assert Page(html).tags.count("script") == 2  # the data and our own
    assert [i["uid"] for i in report["gallery"]["items"]] == [i["uid"] for i in data["items"]]
    assert report["maps"][1]["points"]["x"] == data["maps"][1]["x"]
    assert "could not be opened" not in html and "data:" not in json.dumps(report)


def test_images_that_are_gone_are_told(tmp_path: Path) -> None:
    write_tasks(tmp_path, write_samples(tmp_path, {"a": 100}))
    write_ledger(tmp_path)
    (tmp_path / "images" / "3.jpg").unlink()
    data = explored(html := write_report(tmp_path, tmp_path).read_text())
    missing = [item for item in data["items"] if item["picture"] is None]
    assert {item["image"] for item in missing} == {"images/3.jpg"}
    assert f"{len(missing)} of the images could not be opened" in html
    html = write_report(tmp_path).read_text()  # no config.yaml, so no image root is known
    assert explored(html)["pictures"] == []


def test_a_finished_run_has_intervals_curves_and_images(finished: Path) -> None:
    report = json.loads((finished / "report" / "report.json").read_text())
    html = (finished / "report" / "index.html").read_text()
    arms = {row["arm"]: row for row in report["arms"]}
    for arm in ("final", "full", "random", "untrained"):
        low, high = arms[arm]["intervals"]["tiny"]
        assert low <= arms[arm]["scores"]["tiny"] <= high
    assert {row["against"] for row in report["paired"]} == {"random", "full"}
    gap = arms["final"]["scores"]["tiny"] - arms["random"]["scores"]["tiny"]
    assert report["paired"][0]["difference"] == pytest.approx(gap, abs=1e-3)
    assert "in pairs" in report["verdict"][1] and "One seed cannot" in report["verdict"][2]
    curves = {curve["stage"]: curve for curve in report["curves"]}
    assert list(curves) == ["reference", "final", "random", "full"]
    steps = json.loads((finished / "run.json").read_text())["stages"]["final"]["steps"]
    assert curves["final"]["steps"] == list(range(steps))
    assert len(explored(html)["pictures"]) > 50 and "could not be opened" not in html


def test_costs_are_stated_prices_times_use(run: Path) -> None:
    ledger = json.loads((run / "run.json").read_text())
    ledger |= {"price_per_instruction": 0.25, "price_per_gpu_hour": 2.0}
    ledger["stages"]["final"] |= {"device": "cuda", "devices": 4, "seconds": 1800.0}
    write_json(run / "run.json", ledger)
    report, html = report_of(run)
    costs = {row["arm"]: row["cost"]["total"] for row in report["arms"]}
    assert costs == {"final": 72 / 4 + 4.0, "full": 120.0, "random": 18.0, "untrained": 0.0}
    assert re.search(r"instructions . 0\.25 \+ GPU-hours . 2 \(those of choosing", html)
    assert "22.00" in html
