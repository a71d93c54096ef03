"""The pages in a real browser: nothing fails, nothing is fetched, everything can be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from presel_lightning.eval.report.report import write_report
from presel_lightning.eval.report.selection_diff import write_diff
from tests.browser import chromium, faults, open_page
from tests.eval.report.runs import write_ledger, write_samples, write_tasks

WIDTHS = {"phone": 390, "desktop": 1280}
LARGEST = 10 << 20
"""Bytes of a page."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


class Visit:
    """A page that has been opened, with what it asked for and complained about."""

    def __init__(self, browser: Browser, place: Path, width: int, scheme: Any = "light") -> None:
        viewport: Any = {"width": width, "height": 844}
        self.page: Page = open_page(browser, viewport=viewport, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(place.as_uri())
        self.place = place

    def fetched(self) -> list[str]:
        """What was asked for besides the page itself."""
        own = self.place.as_uri()
        return [url for url in self.requests if url != own and not url.startswith("data:")]

    def faults(self) -> list[str]:
        return faults(self.page)

    def count(self, what: str) -> int:
        return len(self.page.query_selector_all(what))

    def texts(self, what: str) -> list[str]:
        return [element.inner_text() for element in self.page.query_selector_all(what)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that chose 7,500 of 50,000 images in ten tasks, whose pictures hardly compress."""
    out = tmp_path_factory.mktemp("large")
    table = write_samples(out, {f"task-{i}": 5000 for i in range(10)}, images=600)
    write_tasks(out, table)
    write_ledger(out)
    write_report(out, out)
    return out


@pytest.fixture(params=["finished", "large"])
def place(request: pytest.FixtureRequest) -> Path:
    """A run's page."""
    run: Path = request.getfixturevalue(request.param)
    return run / "report" / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", list(WIDTHS.values()), ids=list(WIDTHS))
def test_report_page_loads_without_errors_or_requests(
    browser: Browser, place: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, place, width, scheme)
    assert visit.complaints == [] and visit.fetched() == []
    assert visit.count("table") >= 2 and visit.count("figure svg") >= 3
    assert visit.count("#gallery li") == 48 == visit.count("#gallery img")
    loaded = "[...document.images].every((i) => i.complete && i.naturalWidth > 0)"
    visit.page.wait_for_function(loaded)
    drawn = (
        "() => { const c = document.getElementById('map'); return new Set(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data).size }"
    )
    assert visit.page.evaluate(drawn) > 10
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.faults() == []
    visit.page.close()


def test_report_gallery_filters_and_sorts(browser: Browser, place: Path) -> None:
    visit = Visit(browser, place, WIDTHS["phone"])
    page = visit.page
    task = visit.texts("#gallery-task option")[2]
    page.select_option("#gallery-task", task)
    page.select_option("#gallery-kind", "0")
    page.select_option("#gallery-order", "1")
    lines = [text.split("\n") for text in visit.texts("#gallery li")]
    assert lines and {(line[0], line[1]) for line in lines} == {("left out", task)}
    scores = [float(line[2]) for line in lines]
    assert scores == sorted(scores) and all(line[3].endswith((".jpg", ".png")) for line in lines)
    page.select_option("#gallery-task", "")
    page.select_option("#gallery-kind", "")
    before = visit.count("#gallery li")
    page.click("#gallery-more")
    assert visit.count("#gallery li") > before
    uid = page.get_attribute("#gallery li:nth-child(3)", "title")
    assert uid is not None
    page.fill("#gallery-find", uid)
    assert visit.count("#gallery li") == 1 and "1 of " in visit.texts("#gallery-count")[0]
    page.fill("#gallery-find", "no such uid")
    assert visit.count("#gallery li") == 0 and "No image" in visit.texts("#gallery-count")[0]
    assert visit.complaints == []
    page.close()


def test_report_image_opens_in_full_by_keyboard(browser: Browser, place: Path) -> None:
    visit = Visit(browser, place, WIDTHS["phone"])
    page = visit.page
    kinds = [text.split("\n")[0] for text in visit.texts("#gallery li")]
    headings = visit.texts("#gallery h3")
    tasks = [text.split("\n")[1] for text in visit.texts("#gallery li")]
    assert headings == list(dict.fromkeys(tasks)) and tasks == sorted(tasks)
    first = [kind for kind, task in zip(kinds, tasks) if task == tasks[0]]
    order = ["selected", "reference", "left out"]
    assert first == sorted(first, key=order.index) and set(first) > {"selected", "left out"}
    page.focus("#gallery li:first-child button")
    page.keyboard.press("Enter")
    assert page.locator("#opened").is_visible()
    name = visit.texts("#opened-title")[0]
    uid = str(page.get_attribute("#gallery li:first-child", "title"))
    facts = visit.texts("#opened-facts")[0]
    assert uid in facts and "Neighbor Centrality" in facts and " images selected" in facts
    assert visit.faults() == []
    page.wait_for_function("document.querySelector('#opened-picture img').naturalWidth > 30")
    page.keyboard.press("ArrowRight")
    assert visit.texts("#opened-title")[0] != name or uid not in visit.texts("#opened-facts")[0]
    page.keyboard.press("ArrowLeft")
    assert uid in visit.texts("#opened-facts")[0]
    mate = page.locator("#opened-mates li").first
    other = str(mate.get_attribute("title"))
    mate.locator("button").click()
    assert other in visit.texts("#opened-facts")[0]
    page.keyboard.press("Escape")
    assert not page.locator("#opened").is_visible() and visit.complaints == []
    page.fill("#gallery-find", name.upper())
    assert 0 < visit.count("#gallery li") < 48
    page.close()


def test_report_map_shows_the_focused_point(browser: Browser, place: Path) -> None:
    visit = Visit(browser, place, WIDTHS["desktop"])
    page = visit.page
    page.select_option("#map-task", "1")
    page.focus("#map-next")
    page.keyboard.press("Enter")  # by keyboard alone
    first = visit.texts("#map-status")[0]
    assert first.startswith("selected, cluster") and "score" in first
    page.click("#map-next")
    assert visit.texts("#map-status")[0] != first
    page.click("#map-back")
    assert visit.texts("#map-status")[0] == first
    page.select_option("#map-colour", "cluster")
    page.select_option("#map-task", "0")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    assert box is not None
    text = "JSON.parse(document.getElementById('explore').textContent).maps[0]"
    points = page.evaluate(text)
    span = box["width"] - 32
    x, y = (16 + points[axis][5] / 1000 * span for axis in "xy")
    page.mouse.move(box["x"] + x, box["y"] + box["height"] - y)
    assert f"cluster {points['cluster'][5]}" in visit.texts("#map-status")[0]
    assert visit.complaints == []
    page.close()


def test_report_wide_tables_say_that_they_scroll(browser: Browser, place: Path) -> None:
    for width in WIDTHS.values():
        visit = Visit(browser, place, width)
        shown = (
            "[...document.querySelectorAll('.scroll')].map((b) => [b.scrollWidth > b.clientWidth + 1, "
            "getComputedStyle(b, '::after').content.includes('sideways')])"
        )
        found = visit.page.evaluate(shown)
        assert found and all(wide == said for wide, said in found)
        assert width == WIDTHS["desktop"] or any(wide for wide, _ in found)
        visit.page.close()


def test_report_tables_sort_by_header_click(browser: Browser, place: Path) -> None:
    visit = Visit(browser, place, WIDTHS["desktop"])
    heads = "[...document.querySelectorAll('table[data-sort] thead th')].map((h) => h.ariaSort)"
    assert set(visit.page.evaluate(heads)) == {"none"}
    mark = "getComputedStyle(document.querySelector('#map-table thead button'), '::after').content"
    assert "\N{UP DOWN ARROW}" in visit.page.evaluate(mark)
    column = "#map-table tbody td:nth-child(2)"
    for direction in ("descending", "ascending"):
        visit.page.click("#map-table thead th:nth-child(2) button")
        head = visit.page.get_attribute("#map-table thead th:nth-child(2)", "aria-sort")
        sizes = [int(text.replace(",", "")) for text in visit.texts(column)]
        assert head == direction and sizes == sorted(sizes, reverse=direction == "descending")
    visit.page.close()


def test_report_of_large_selection_is_small(browser: Browser, large: Path) -> None:
    place = large / "report" / "index.html"
    assert place.stat().st_size < LARGEST
    visit = Visit(browser, place, WIDTHS["phone"])
    taken = visit.page.evaluate("performance.getEntriesByType('navigation')[0].duration")
    print(f"{place.stat().st_size / 2**20:.1f} MB, opened in {taken / 1000:.2f} s")
    assert visit.count("*") < 5000
    visit.page.close()


@pytest.mark.parametrize("width", list(WIDTHS.values()), ids=list(WIDTHS))
def test_selection_diff_page_loads_without_errors(
    browser: Browser, large: Path, tmp_path: Path, width: int
) -> None:
    other = tmp_path / "other"
    write_samples(other, {f"task-{i}": 500 for i in range(10)}, seed=1)
    visit = Visit(browser, write_diff(large, other, tmp_path / "diff.html"), width)
    assert visit.complaints == [] and visit.fetched() == [] and visit.faults() == []
    assert visit.count("table") == 1 and visit.count(".gallery li") > 50
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.close()
