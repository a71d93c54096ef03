"""A small run folder of real files goes in; a page and the same figures come out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from presel_lightning.eval.report.report import print_summary
from tests.eval.report.runs import (
    ARM_TASKS,
    BUDGETS,
    SECONDS,
    TASK_COLUMNS,
    TASKS,
    Page,
    keep,
    mean,
    report_of,
    write_json,
    write_run,
    write_samples,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path)
    return tmp_path


def test_report_figures_match_the_run_files(run: Path) -> None:
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


def test_report_signal_summary_matches_a_literal_mean(run: Path) -> None:
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


def test_report_gpu_hours_count_only_gpu_stages(run: Path) -> None:
    ledger = json.loads((run / "run.json").read_text())
    ledger["stages"]["final"] |= {"device": "cuda", "devices": 4, "seconds": 1800.0}
    write_json(run / "run.json", ledger)
    report, html = report_of(run)
    assert {row["arm"]: row["gpu_hours"] for row in report["arms"]}["final"] == 2.0
    stages = {row["stage"]: row for row in report["stages"]}
    assert stages["final"]["gpu_hours"] == 2.0 and stages["features"]["gpu_hours"] is None
    cells = stage_cells(html)
    assert (
        cells["final"][3:5] == ["2.00", "cuda \N{MULTIPLICATION SIGN} 4"]
        and cells["features"][3] == "CPU"
    )
    assert "cost" not in cells["stage"] and stages["final"]["gpu_cost"] is None


def stage_cells(html: str) -> dict[str, list[str]]:
    """Cells of the table of stages, by the first of their row."""
    table = html.split('aria-label="Table of stages"')[1].split("</table>")[0]
    rows = [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", row)]
        for row in table.replace("\n", "").split("<tr>")[1:]
    ]
    return {first: rest for first, *rest in rows}


def test_report_page_is_self_contained_and_escaped(run: Path) -> None:
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
def test_report_of_partial_run_omits_missing_charts(
    run: Path, change: Callable[[Path], None], charts: int
) -> None:
    change(run)
    _, html = report_of(run)
    page = Page(html)
    assert page.tags.count("svg") == charts
    assert page.tags[-1] == "script" and "None" not in page.text


def test_report_shows_why_an_arm_was_skipped(run: Path) -> None:
    for name in ("work/scores/full.json", "work/scores/random.json"):
        (run / name).unlink()
    table = json.loads((run / "benchmark.json").read_text())
    arms = {name: {**table[name], "relative": None} for name in ("final", "untrained")}
    write_json(run / "benchmark.json", arms)
    ledger = json.loads((run / "run.json").read_text())
    left_out = {"full": "408 of its 480 images have no instruction", "random": "61 of its 72 have"}
    ledger["arms_left_out"] = left_out
    del ledger["stages"]["full"], ledger["stages"]["random"]
    write_json(run / "run.json", ledger)
    report, html = report_of(run)
    assert "408 of its 480 images have no instruction" in html
    assert [row["arm"] for row in report["arms"]] == ["final", "full", "random", "untrained"]
    assert report["arms"][0]["relative"] is None
    assert "61 of its 72 have" in report["verdict"][0] and "does not show" in report["verdict"][0]
    assert "[random]" not in report["verdict"][0]


def test_report_of_waiting_run_names_missing_instructions(run: Path) -> None:
    drop("benchmark.json")(run)
    write_json(run / "run.json", {"state": "waiting", "selector": "PreSel", "stages": {}})
    report, html = report_of(run)
    assert "waits for instructions" in report["verdict"][0] and "waiting for instructions" in html


def test_report_heading_names_run_pool_models_and_state(run: Path) -> None:
    about = {"pool": "photos", "model": "llava-hf/x", "encoder": "facebook/dinov2-base"}
    facts = {"state": "waiting", "started": "2026-11-29 12:00 UTC", "about": about}
    stages = {
        "instructions": {"missing": 163},
        "pool": {"problems": 13, "by_problem": {"not_an_image": 9, "no_answer": 4}},
    }
    write_json(run / "run.json", {**facts, "selector": "Medoids", "stages": stages})
    _, html = report_of(run)
    heading = " ".join(re.sub("<[^>]+>", "", html[html.index('class="about"') :]).split())
    assert f"Run {run.name}, 2026-11-29 12:00 UTC · pool photos" in heading
    assert "encoder facebook/dinov2-base · waiting for 163 instructions" in heading
    assert "13 left out: 9 not an image, 4 no answer" in html
    assert "{'" not in "".join(Page(html).text)


def test_report_of_a_waiting_run_shows_its_images_first(run: Path) -> None:
    """A page to look at before anything is annotated speaks of no outcome and of no other method."""
    write_samples(run, dict(zip(TASKS, (120, 100, 80, 80, 60, 40))))
    _, trained = report_of(run)
    assert trained.index('id="h-tasks"') < trained.index('id="h-gallery"')
    assert "and what came of it</h1>" in trained and "GPU-hours" not in trained
    drop("benchmark.json")(run)
    pool = {"passed_over": {".txt": 1}, "shown": {"orientation": 2, "changed": 2}, "samples": 480}
    waiting = {"samples": 72, "missing": 71}
    stages = {"pool": pool, "instructions": waiting, "annotations": {"samples": 1}}
    facts = {"state": "waiting", "selector": "Medoids", "stages": stages}
    write_json(run / "run.json", facts)
    _, html = report_of(run)
    assert html.index('id="h-gallery"') < html.index('id="h-tasks"')
    assert "<h1>Medoids: which images to annotate</h1>" in html
    assert "Selected images of each task" in html and "How to cite" not in html
    assert list(stage_cells(html)) == ["stage", "pool", "annotations", "instructions"]
    cells = stage_cells(html)
    shown = "passed over, no pictures: 1 .txt, 2 images that viewers show otherwise (2 orientation), 480"
    assert shown in cells["pool"][-1] and "71 without an instruction" in cells["instructions"][-1]


def test_report_counts_images_of_several_frames(run: Path) -> None:
    """Alone: both ways of reading show the first frame, so nothing is changed."""
    write_json(run / "run.json", {"stages": {"pool": {"samples": 480, "shown": {"frames": 3}}}})
    _, html = report_of(run)
    assert "3 images of several frames" in stage_cells(html)["pool"][-1]


def test_report_of_a_cpu_run_has_no_column_without_a_figure(run: Path) -> None:
    _, html = report_of(run)
    assert stage_cells(html)["stage"][2:4] == ["peak memory, MB", "device"]
    head = html.split('aria-label="The first problems"')[1].split("</thead>")[0]
    named = re.findall(r"<th [^>]*>(.*?)</th>", head)
    assert named == ["id", "image", "task", "problem", "detail"]


def test_report_of_a_run_that_was_cut_short_counts_its_stages(run: Path) -> None:
    ledger = json.loads((run / "run.json").read_text())
    stages = {**ledger["stages"], "final": {"status": "running"}}
    planned = [*stages, "instructions"]
    del stages["benchmarks"], stages["full"]
    write_json(
        run / "run.json", {**ledger, "state": "running", "planned": planned, "stages": stages}
    )
    _, html = report_of(run)
    heading = html[html.index('class="about"') : html.index('class="lead"')]
    assert f"cut short in final, or still running: {len(stages) - 1} of 11 stages done" in heading
    stages["final"] = {"status": "cut short", "cut_short": "after 1 of 2 steps"}
    write_json(run / "run.json", {**ledger, "stages": stages})
    _, html = report_of(run)
    heading = html[html.index('class="about"') : html.index('class="lead"')]
    assert "finished, the fit of final cut short after 1 of 2 steps" in heading


def test_report_of_a_selector_without_a_reference_split_is_silent_about_it(run: Path) -> None:
    path = run / "selection" / "tasks.csv"
    with path.open(newline="") as handle:
        rows = [
            {**r, "reference": "0", "irs_mean": "", "irs_sem": "", "weight": ""}
            for r in csv.DictReader(handle)
        ]
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    facts = json.loads((run / "run.json").read_text())
    counts = {**facts["counts"], "reference": 0}
    write_json(run / "run.json", {**facts, "selector": "Medoids", "counts": counts})
    (run / "signals" / "paired_loss.parquet").unlink()
    _, html = report_of(run)
    page = html[html.index("<body") : html.index("Resolved configuration")]
    assert (
        "IRS" not in page and "weight %" not in page and "eference" not in page.split("h-arms")[0]
    )
    assert "reference" not in page.split("h-tasks")[2].split("</table>")[0]
    terms = html[html.index('id="h-terms"') :]
    assert "Reference split" not in terms and "Neighbor Centrality" not in terms


def test_print_summary_shows_table_and_verdict(run: Path) -> None:
    report, _ = report_of(run)
    console = Console(width=120, record=True, quiet=False, file=(run / "screen").open("w"))
    print_summary(run, console)
    text = console.export_text()
    assert report["headline"] in text and report["verdict"][0] in " ".join(text.split())
    assert re.search(r"PreSel \(final\) .* 72 .* 50\.8 .* 70\.9 ", text)
    assert str(run / "report" / "index.html") in "".join(text.split())


def test_report_charts_show_only_the_largest_tasks(run: Path) -> None:
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


def test_report_costs_are_prices_times_usage(run: Path) -> None:
    ledger = json.loads((run / "run.json").read_text())
    ledger |= {"price_per_instruction": 0.25, "price_per_gpu_hour": 2.0}
    ledger["stages"]["final"] |= {"device": "cuda", "devices": 4, "seconds": 1800.0}
    write_json(run / "run.json", ledger)
    report, html = report_of(run)
    costs = {row["arm"]: row["cost"]["total"] for row in report["arms"]}
    assert costs == {"final": 72 / 4 + 4.0, "full": 120.0, "random": 18.0, "untrained": 0.0}
    assert re.search(r"instructions . 0\.25 \+ GPU-hours . 2 \(those of choosing", html)
    assert "22.00" in html
    cells = stage_cells(html)
    assert cells["stage"][3:5] == ["GPU-hours", "cost"]
    assert cells["final"][3:5] == ["2.00", "4.00"] and cells["random"][3:5] == [
        "CPU",
        "\N{EN DASH}",
    ]


def test_report_without_full_data_has_no_relative_column(run: Path) -> None:
    assert "relative %" in report_of(run)[1]
    table = json.loads((run / "benchmark.json").read_text())
    write_json(run / "benchmark.json", {a: {**row, "relative": None} for a, row in table.items()})
    _, html = report_of(run)
    assert "relative %" not in html and "shapes" in html
    console = Console(width=120, record=True, file=(run / "screen").open("w"))
    print_summary(run, console)
    assert "relative %" not in console.export_text()


def test_report_intervals_use_the_benchmarks_unit(run: Path) -> None:
    """As MME has them: points up to 2000, the mean over subtasks of what images came to."""
    tasks = ["count", "count", "scene", "scene"]
    credit = {"final": [1.0, 0.25, 1.0, 0.0], "random": [0.25, 0.0, 1.0, 0.0], "full": [1.0] * 4}
    keep(
        run,
        "points",
        {
            arm: {"score": 500 * sum(c), "items": c, "item_tasks": tasks, "scale": 2000.0}
            for arm, c in credit.items()
        },
    )
    report, html = report_of(run)
    final = report["arms"][0]
    # each subtask: both images, one or the other, or both ways round
    assert final["scores"]["points"] == 1125.0 and final["intervals"]["points"] == [250.0, 2000.0]
    rows = {row["against"]: row for row in report["paired"]}
    assert set(rows) == {"random", "full"} and rows["random"]["difference"] == 500.0
    assert [rows["random"][end] for end in ("low", "high")] == [250.0, 750.0]
    assert "1125.0" in html and "[250.0, 2000.0]" in html
    assert "minus random, points of 2,000" in html and "minus full data, points of 2,000" in html
    assert report["without_interval"] == ["shapes"] and "No interval for shapes:" in html


def test_report_draws_each_difference_on_its_own_scale(run: Path) -> None:
    right = {
        "final": [1.0] * 50 + [0.0] * 50,
        "random": [1.0] * 49 + [0.0] * 51,
        "full": [1.0] * 100,
    }
    keep_right_answers(run, "vqa", right)
    report, html = report_of(run)
    for row in report["paired"]:
        chart = html[html.index(f'id="paired-{row["against"]}-100-title"') :].split("</svg>")[0]
        marks = [float(m) for m in re.findall(r'class="tick"[^>]*>([^<]*)</text>', chart)]
        ends = [row["low"], row["high"], row["difference"]]
        assert min(marks) <= min(ends) and max(marks) >= max(ends) and 0.0 in marks
        assert max(map(abs, marks)) <= 2.5 * max(map(abs, ends))
    widest = {row["against"]: max(abs(row["low"]), abs(row["high"])) for row in report["paired"]}
    assert widest["random"] < widest["full"] / 4  # on a common scale it would hardly be seen


def keep_right_answers(run: Path, name: str, right: dict[str, list[float]]) -> None:
    """Add a benchmark whose score is the share of right answers."""
    keep(
        run,
        name,
        {arm: {"score": 100 * sum(c) / len(c), "items": c} for arm, c in right.items()},
    )


def test_report_shows_each_benchmark_relative_to_full_data(run: Path) -> None:
    right = {"final": [1.0, 1.0, 0.0, 0.0], "random": [1.0, 0.0, 0.0, 0.0], "full": [1.0] * 4}
    keep_right_answers(run, "vqa", right)
    report, html = report_of(run)
    arms = {row["arm"]: row for row in report["arms"]}
    shapes = 100 * mean(ARM_TASKS["final"]) / mean(ARM_TASKS["full"])
    assert arms["final"]["of_full"] == pytest.approx({"shapes": shapes, "vqa": 50.0})
    # full is right everywhere, so this is the score's own
    assert arms["final"]["of_full_intervals"] == {"vqa": [0.0, 100.0]}
    assert arms["final"]["relative_interval"] is None  # shapes kept no credits
    lead = report["relative_to_random"]
    assert lead["without"] == ["shapes"] and lead["low"] is None
    assert "has no interval" in " ".join(report["verdict"])
    table = html.split('aria-label="Scores by benchmark"')[1].split("</table>")[0]
    text = " ".join(re.sub("<[^>]*>", " ", table).split())
    assert "vqa PreSel (final) 50.0 [0.0, 100.0] 50.0 [0.0, 100.0]" in text
    assert f"shapes full data {mean(ARM_TASKS['full']):.1f} 100.0" in text
    assert list(json.loads((run / "benchmark.json").read_text())["final"]) == [
        "shapes",
        "relative",
        "vqa",
    ]


def test_report_given_full_scores_are_the_denominator(run: Path) -> None:
    (run / "other.json").write_text('{"shapes": 50.0, "vqa": 80.0}')
    ledger = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**ledger, "full_scores": str(run / "other.json")})
    keep_right_answers(run, "vqa", {"final": [1.0, 0.0], "random": [1.0, 0.0], "full": [1.0, 1.0]})
    arms = {row["arm"]: row for row in report_of(run)[0]["arms"]}
    assert arms["final"]["of_full"]["vqa"] == 62.5 and arms["full"]["of_full"]["vqa"] == 125.0
    assert arms["final"]["of_full_intervals"] == {"vqa": [0.0, 125.0]}
    (run / "other.json").unlink()  # then it is not known what the scores were compared with
    assert report_of(run)[0]["arms"][0]["of_full"] == {"shapes": None, "vqa": None}
