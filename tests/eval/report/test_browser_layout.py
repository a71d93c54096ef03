"""In a real browser no two texts of a chart or a table's head overlap, and none leaves its chart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser

from presel_lightning.eval.comparison.page import write_comparison
from presel_lightning.eval.report.report import write_report
from tests.browser import chromium, faults, open_page
from tests.eval.comparison.grids import write_cell
from tests.eval.report.runs import keep, write_json, write_run

OVERLAPS = """
() => {
  const faults = [];
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5;
  const pairs = (found, where) => found.forEach(([text, box], i) => found.slice(i + 1).forEach(
    ([other, there]) => { if (overlap(box, there)) faults.push(`${where}: ${text} | ${other}`); }));
  let texts = 0;
  for (const chart of document.querySelectorAll("figure svg")) {
    const frame = chart.getBoundingClientRect(), name = chart.querySelector("title").textContent;
    const found = [...chart.querySelectorAll("text")].map((e) => [
      e.lastChild.textContent, e.getBoundingClientRect()]);
    texts += found.length;
    for (const [text, box] of found)
      if (box.left < frame.left - 0.5 || box.right > frame.right + 0.5
        || box.top < frame.top - 0.5 || box.bottom > frame.bottom + 0.5)
        faults.push(`${name}: ${text} leaves the chart`);
    pairs(found, name);
  }
  const heads = [...document.querySelectorAll("caption span, thead th, figcaption, h1, h2, h3, nav a")]
    .filter((head) => head.checkVisibility());
  pairs(heads.map((head) => {
    const range = document.createRange(), frame = head.closest(".scroll")?.getBoundingClientRect();
    range.selectNodeContents(head);
    const { left, right, top, bottom } = range.getBoundingClientRect();
    return [head.textContent, { left, right: Math.min(right, frame?.right ?? right), top, bottom }];
  }), "headings");
  return [texts, heads.length, faults];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def change_json(path: Path, **facts: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **facts})


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with long names; scores at 0, at the maximum and near each other; losses to `random`."""
    out = tmp_path_factory.mktemp("crowded")
    write_run(out)
    stages = json.loads((out / "run.json").read_text())["stages"]
    stages["full"]["seconds"] = 360000.0
    stages["a_stage_with_quite_a_long_name_of_its_own"] = {"seconds": 3e5, "peak_memory_mb": 1e6}
    name = "WWeighted_Selector_With_A_Name_That_No_Chart_Has_Room_For"
    change_json(out / "run.json", selector=name, stages=stages)
    right = {"final": [0.0, 0.0, 1.0, 0.0], "random": [1.0, 0.0, 1.0, 1.0]}
    for bench, scale in (("points", 2000.0), ("a benchmark whose name is long, too", 100.0)):
        keep(out, bench, {a: {"score": scale * sum(c) / 4, "items": c, "scale": scale,
                              "tasks": {"low": 0.0, "Same": 1999.9, "same": 1999.8,
                                        "a task " * 9: 0.04, "色の名前をこたえてください" * 3: 2000.0}}
                          for a, c in {**right, "full": [1.0] * 4}.items()})  # fmt: skip
    for arm, steps in (("reference", 1), ("final", 40), ("random", 9), ("full", 400)):
        (out / "logs" / arm).mkdir(parents=True)
        rows = [f"{step},{12 / (step + 1)}" for step in range(steps)]
        text = "\n".join(["step,train_loss", *rows])
        (out / "logs" / arm / "metrics.csv").write_text(text)
    return write_report(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose final model scored 0, with nothing beside it."""
    out = tmp_path_factory.mktemp("alone")
    write_run(out)
    for arm in ("full", "random", "untrained"):
        (out / "work" / "scores" / f"{arm}.json").unlink()
    write_json(out / "work/scores/final.json", {"benchmarks": {"b": {"score": 0.0, "tasks": {}}}})
    write_json(out / "benchmark.json", {"final": {"b": 0.0, "relative": None}})
    return write_report(out)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of five selectors at seven budgets, whose scores are near each other."""
    out = tmp_path_factory.mktemp("grid")
    selectors = ["Random", *(f"{'Long_' * n}label_of_selector_{n}" for n in range(4))]
    budgets = [0.0125, 0.05, 0.125, 0.25, 1250, 12500, 125000]
    planned = [(s, b, n) for s in selectors for b in budgets for n in (0, 1)]
    cells = []
    for selector, budget, seed in [*planned, ("full", 1.0, 0)]:
        name = f"{selector}-{budget:g}-{seed}"
        cells.append(
            {"name": name, "selector": selector, "budget": budget, "seed": seed, "needs": []}
        )
        write_cell(out / "cells" / name, 1234.5 - 0.01 * seed * len(selector), "MME")
    write_json(out / "grid.json", {"cells": cells})
    write_json(out / "benchmark.json", {"untrained": {"MME": 1233.9, "relative": None}})
    write_json(out / "run.json", {"stages": {}})
    return write_comparison(out)


@pytest.mark.parametrize("kind", ["crowded", "alone", "grid", "finished"])
def test_texts_of_charts_and_headings_do_not_overlap(
    kind: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    made: Path = request.getfixturevalue(kind)
    place = made if made.suffix else made / "report" / "index.html"
    views: list[tuple[int, Literal["light", "dark"]]] = [(390, "light"), (1280, "dark")]
    for width, scheme in views:
        page = open_page(browser, viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.goto(place.as_uri())
        texts, heads, overlaps = page.evaluate(OVERLAPS)
        assert overlaps == [] and texts > 10 and heads > 10
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "{'" not in page.inner_text("body")
        assert kind != "grid" or faults(page) == []  # the others are examined elsewhere
        page.close()


@pytest.mark.parametrize("kind", ["crowded", "alone", "grid"])
def test_contents_lead_to_every_section_by_keyboard(
    kind: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    place: Path = request.getfixturevalue(kind)
    page = open_page(browser, viewport={"width": 390, "height": 844})
    page.goto(place.as_uri())
    links = [str(link.get_attribute("href")) for link in page.query_selector_all("nav a")]
    headings = page.query_selector_all("main h2")
    assert links == [f"#{heading.get_attribute('id')}" for heading in headings] and len(links) > 4
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.getAttribute('href')") != links[-1]:
        assert page.evaluate("document.activeElement.closest('header') !== null")
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "(id) => Math.abs(document.querySelector(id).getBoundingClientRect().top) < innerHeight",
        arg=links[-1],
    )
    page.close()


def test_comparison_cells_sort_by_score_and_lead_to_their_reports(
    browser: Browser, grid: Path
) -> None:
    page = open_page(browser, viewport={"width": 1280, "height": 844})
    page.goto(grid.as_uri())
    table = "[aria-label='Table of cells']"
    page.click(f"{table} th:has-text('MME') button")
    column = page.evaluate(
        "(table) => [...document.querySelector(table).querySelectorAll('thead th')]"
        ".findIndex((head) => head.ariaSort === 'descending')",
        table,
    )
    cells = page.query_selector_all(f"{table} tbody td:nth-child({column + 1})")
    scores = [float(cell.inner_text()) for cell in cells]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]
    links = page.query_selector_all(f"{table} tbody a")
    assert len(links) == len(scores) - 1  # the untrained model has no run
    folder = (grid.parent / str(links[0].get_attribute("href"))).resolve().parent.parent
    assert (folder / "benchmark.json").is_file()
    page.close()
