"""Folders of cells go in; a table of all scores, a page and lines on the screen come out."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from presel_lightning.console import console
from presel_lightning.eval.comparison.cells import COLUMNS, plain, read_cells
from presel_lightning.eval.comparison.page import print_comparison, table_rows, write_comparison
from tests.eval.comparison.grids import HOSTILE, write_grid, write_json


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_grid(tmp_path, {"Random": [40.0, 42.0], "A": [44.0, 47.0], "full": [50.0, None]})
    return tmp_path


def test_read_cells_sums_the_selection_seconds(out: Path) -> None:
    cells = {(c["selector"], c["seed"]): c for c in read_cells(out, "p")}
    assert len(cells) == 6 and ("full", 1) not in cells
    assert cells["Random", 0]["selection_seconds"] == 1.0
    assert cells["A", 0]["selection_seconds"] == 7.0
    assert cells["A", 1]["scores"] == {"shapes": 47.0} and cells["A", 1]["pool"] == "p"
    assert cells["A", 1]["given"] == {HOSTILE: 4} and len(cells["A", 1]["chosen"]) == 4
    assert cells["untrained", None]["instructions"] == 0


class Loads(HTMLParser):
    """What a page would fetch, and the tags that text might have smuggled in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "srcset", "data") or (name == "href" and tag != "a"):
                self.loads.append(str(value))
            if name == "href" and tag == "a":
                self.links.append(str(value))


def test_comparison_without_random_explains_no_interval(tmp_path: Path) -> None:
    write_grid(tmp_path / "with", {"Random": [40.0, 42.0], "A": [44.0, 47.0]})
    write_grid(tmp_path / "without", {"A": [44.0, 47.0], "B": [40.0, 42.0]})
    terms = [
        write_comparison(tmp_path / name).read_text().split('id="h-terms"')[1]
        for name in ("with", "without")
    ]
    for word in ("Interval", "Random here and in"):
        assert word in terms[0] and word not in terms[1]


def test_comparison_page_is_self_contained(out: Path) -> None:
    place = write_comparison(out)
    html = place.read_text()
    page = Loads(html)
    assert place == out / "report" / "index.html" and page.loads == []
    assert not re.search(r"url\(|@import", html)
    assert HOSTILE not in html and "&lt;script&gt;" in html
    cells = [link for link in page.links if "cells/" in link]
    assert "../cells/A-0.5-1/report/index.html" in cells and len(cells) == 5
    assert "45.5 ± 2.1" in html and "<svg" in html
    for name in ("table.md", "table.tex", "report.json"):
        assert (out / "report" / name).stat().st_size > 0


def test_comparison_page_lists_cells_with_loss_hours_and_cost(out: Path) -> None:
    """GPU-hours are those of the fit and of the signals of the selector alone."""
    for name in ("Random-0.5-0", "A-0.5-0"):
        path = out / "cells" / name / "run.json"
        run = json.loads(path.read_text())
        for stage in run["stages"].values():
            stage |= {"device": "cuda", "devices": 2, "seconds": 1800.0}
        prices = {"price_per_instruction": 0.5, "price_per_gpu_hour": 3.0}
        write_json(path, {**run, **prices})
    html = write_comparison(out).read_text()
    report = json.loads((out / "report" / "report.json").read_text())
    cells = {cell["name"]: cell for cell in report["cells"]}
    assert len(cells) == 6 and cells["A-0.5-1"]["gpu_hours"] is None
    random, a = cells["Random-0.5-0"], cells["A-0.5-0"]
    assert (random["gpu_hours"], random["cost"]) == (1.0 + 1.0, 4 * 0.5 + 2 * 3.0)
    # features, the reference fit, two losses, three stages of the held-out loss
    assert a["gpu_hours"] == 1.0 + 1.0 + 6.0 and a["loss"] == 0.44
    rows = html.split('aria-label="Table of cells"')[1].split("</table>")[0].split("<tr>")[1:]
    shown = {
        re.sub("<[^>]+>", " ", row).split()[0]: " ".join(re.sub("<[^>]+>", " ", row).split())
        for row in rows
    }
    assert shown["A-0.5-0"] == "A-0.5-0 A 50 % 0 4 44.0 88.0 0.4400 8.00 26.00"
    assert (
        shown["cell"]
        == "cell selector budget seed training samples shapes relative % loss GPU-hours cost"
    )


def test_comparison_page_draws_a_dot_for_each_scored_cell(out: Path) -> None:
    html = write_comparison(out).read_text()
    chart = html[html.index('id="budget-0-title"') :].split("</svg>")[0]
    dots = re.findall(r'<circle class="dot [^>]*cy="([\d.]+)"[^>]*><title>([^<]*)</title>', chart)
    shown = {title: float(y) for y, title in dots}
    assert set(shown) == {
        *(f"Random, 50 %, seed {seed}: {score}" for seed, score in ((0, 40), (1, 42))),
        *(f"A, 50 %, seed {seed}: {score}" for seed, score in ((0, 44), (1, 47))),
        "full, full, seed 0: 50",
        "untrained, untrained, no seed: 5",
    }
    means = [
        float(y) for y in re.findall(r'<path class="curve s1" d="M[\d.]+ ([\d.]+)h10"/>', chart)
    ]
    two = [shown[f"Random, 50 %, seed {seed}: {score}"] for seed, score in ((0, 40), (1, 42))]
    assert means == [pytest.approx(sum(two) / 2, abs=0.11)] and min(two) < means[0] < max(two)


def test_comparison_heading_counts_the_scored_cells(out: Path) -> None:
    about = {"pool": "photos", "model": "llava-hf/x", "encoder": "facebook/dinov2-base"}
    write_json(out / "run.json", {"stages": {}, "started": "2026-11-29 12:00 UTC", "about": about})
    html = write_comparison(out).read_text()
    heading = " ".join(re.sub("<[^>]+>", "", html[html.index('class="about"') :]).split())
    assert f"Comparison {out.name}, 2026-11-29 12:00 UTC · pool photos · model" in heading
    assert "encoder facebook/dinov2-base · 5 of 6 cells scored; the others failed" in heading


def test_comparison_csv_holds_every_score(out: Path) -> None:
    write_comparison(out)
    with (out / "comparison.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == COLUMNS
    issue = "selector budget seed benchmark score relative instructions train_samples"
    assert list(COLUMNS[:9]) == [*issue.split(), "selection_seconds"]
    found = {(row["selector"], row["seed"]): row for row in rows}
    assert float(found["A", "0"]["relative"]) == pytest.approx(88.0)
    assert float(found["A", "1"]["relative"]) == pytest.approx(94.0)  # the mean of full data
    assert found["untrained", ""]["score"] == "5.0"


def test_comparison_csv_rounds_numbers(out: Path) -> None:
    grid = json.loads((out / "grid.json").read_text())
    for cell in grid["cells"]:
        cell["budget"] = 0.1 + 0.2 if cell["selector"] == "A" else cell["budget"]
    write_json(out / "grid.json", grid)
    write_cell_score(out / "cells" / "A-0.5-0", 100 / 3)
    write_comparison(out)
    with (out / "comparison.csv").open() as handle:
        row = next(row for row in csv.DictReader(handle) if row["selector"] == "A")
    assert (row["budget"], row["score"], row["relative"]) == ("0.3", "33.333333", "66.666667")
    assert [plain(value) for value in (1 / 3e7, 2000.1234, 7, None)] == [
        3.3333333e-08,
        2000.1234,
        7,
        None,
    ]


def write_cell_score(folder: Path, score: float) -> None:
    write_json(folder / "benchmark.json", {"final": {"shapes": score, "relative": None}})


def test_read_cells_skips_unfinished_cells(out: Path) -> None:
    file = out / "cells" / "A-0.5-1" / "run.json"
    write_json(file, {**json.loads(file.read_text()), "state": "running"})
    assert ("A", 1) not in {(c["selector"], c["seed"]) for c in read_cells(out)}


def test_comparison_of_several_pools_is_one_page(tmp_path: Path) -> None:
    for name, add in (("one", 0.0), ("two", 2.0)):
        scores = {"Random": [40.0, 42.0], "A": [44.0 + add, 47.0 + add]}
        write_grid(tmp_path / "pools" / name, scores)  # type: ignore[arg-type]
    write_json(tmp_path / "run.json", {"stages": {}})
    place = write_comparison(tmp_path, [(n, tmp_path / "pools" / n) for n in ("one", "two")])
    page = Loads(place.read_text())
    assert "../pools/two/cells/A-0.5-0/report/index.html" in page.links
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["over_pools"][0]["differences"][0]["mean"] == pytest.approx(5.5)
    for link in page.links:
        if "cells/" in link:
            cell_folder = (place.parent / link).resolve().parent.parent
            assert (cell_folder / "benchmark.json").exists()


def test_verdict_failed_random_is_not_called_absent(tmp_path: Path) -> None:
    write_grid(tmp_path, {"Random": [None, None], "A": [44.0, 47.0]})
    write_comparison(tmp_path)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["verdict"] == ["Random has no score, so no difference can be tested."]


def test_comparison_shows_published_rows(tmp_path: Path) -> None:
    write_grid(tmp_path, {"Random": [70.0], "A": [75.0]}, benchmark="VQAv2")
    run = {"stages": {}, "full_scores": "published:llava665k"}
    write_json(tmp_path / "run.json", run)
    html = write_comparison(tmp_path).read_text()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["parts"][0]["rows"][1]["relative"][0] == pytest.approx(100 * 75.0 / 79.1)
    rows = {row[0]: row[1:] for row in table_rows(report["parts"][0], report)}
    assert rows["PreSel (paper)"] == ["15 %", "75.0", "94.8"]
    assert rows["COINCIDE (paper)"] == ["100 %", "76.1", "96.2"]
    assert "PreSel (paper)" in html
    assert r"PreSel (paper) & 15 \% & 75.0" in (tmp_path / "report" / "table.tex").read_text()


def test_print_comparison_shows_table_verdict_and_path(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_comparison(out)
    recorder = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    monkeypatch.setattr(console, "print", recorder.print)
    print_comparison(out)
    text = recorder.export_text()
    assert "45.5 ± 2.1" in text and "A is not distinguishable from Random" in text
    assert str(out / "comparison.csv") in text
