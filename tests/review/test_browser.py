"""The page in a real browser, mostly by keyboard."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import faults
from tests.review.runs import BUDGET, lines, select, selected, serving, write_large
from tests.review.visits import Slow, Visit, image_of


def test_veto_pin_and_answer_by_keyboard_reach_the_next_selection(
    browser: Browser, run: Path, waiting: Path
) -> None:
    before = selected(run)
    with serving(run) as server:
        visit = Visit(browser, server)
        page = visit.page
        expect(page.locator("#counts")).to_contain_text(f"{BUDGET} selected, 0 reference")
        visit.press("ArrowRight", "ArrowRight")
        vetoed = image_of(page)
        visit.press("v")
        visit.message(f"Vetoed: {vetoed}")
        assert image_of(page) == vetoed  # the focus stays
        visit.press("u")
        visit.message("Left to the selector")
        visit.press("v")
        visit.message("Vetoed")
        expect(page.locator("#counts")).to_contain_text("1 vetoed, 0 pinned")
        page.select_option("#show", "left_out")
        expect(page.locator("#range")).to_contain_text("1 to 60 of 60")
        page.locator(".card").nth(3).focus()
        pinned = image_of(page)
        visit.press("Enter")
        expect(page.locator("#view-title")).to_have_text(pinned)
        visit.press("p")
        visit.message("Pinned", "#view-message")
        visit.press("Escape")
        assert image_of(page) == pinned
        page.select_option("#show", "waiting")
        expect(page.locator("#range")).to_contain_text(f"of {BUDGET - 1}")  # not the vetoed one
        page.locator(".card").first.focus()
        visit.press("Enter")
        said = []
        for n in range(3):
            expect(page.locator("textarea[name=question]")).to_be_focused()
            said.append(page.locator("#view-title").inner_text())
            page.keyboard.type(f"vpu: what is {n}?")  # letters are text here
            visit.press("Tab")
            page.keyboard.type(f"It is {n}.")
            visit.press("Control+Enter")
            visit.message("Saved.", "#view-message")
            expect(page.locator("#view-title")).not_to_have_text(said[-1])
        visit.press("Escape")
        expect(page.locator("#counts")).to_contain_text(f"{BUDGET - 4} wait")
        found = lines(run / "annotations" / "answers.jsonl")
        assert [record["image"] for record in found] == said
        assert found[1]["conversations"] == [
            {"from": "human", "value": "<image>\nvpu: what is 1?"},
            {"from": "gpt", "value": "It is 1."},
        ]
        page.reload()
        expect(page.locator("#counts")).to_contain_text(f"1 vetoed, 1 pinned; {BUDGET - 4} wait")
        page.select_option("#show", "vetoed")
        expect(page.locator(".card.veto")).to_have_count(1)
        assert visit.complaints == [] and visit.elsewhere == []
        assert select(waiting / "photos", run) == 3
        after = set(selected(run).values())
        assert len(after) == BUDGET and vetoed not in after and pinned in after
        assert len(set(before.values()) - after) <= 2
        page.select_option("#show", "selected")
        expect(page.locator(f'.card.pin[aria-label^="{pinned}"]')).to_have_count(1)
        page.close()


def test_turns_and_drafts_are_kept(browser: Browser, run: Path) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        page = visit.page
        first = visit.open_view()
        visit.press("e")
        page.keyboard.type("What?")
        page.click("#more")
        page.keyboard.type("And then?")
        page.click("#following")
        expect(page.locator("#view-title")).not_to_have_text(first)
        visit.press("ArrowLeft")
        expect(page.locator("#view-title")).to_have_text(first)
        questions = page.locator("textarea[name=question]")
        expect(questions).to_have_count(2)
        assert [questions.nth(n).input_value() for n in range(2)] == ["What?", "And then?"]
        page.click("button[type=submit]")
        expect(page.locator("#view-message")).to_have_class("wrong")
        assert lines(run / "annotations" / "answers.jsonl") == []
        answers = page.locator("textarea[name=answer]")
        for n in range(2):
            answers.nth(n).fill(f"Answer {n}")
        page.click("button[type=submit]")
        visit.message("Saved.", "#view-message")
        (record,) = lines(run / "annotations" / "answers.jsonl")
        assert len(record["conversations"]) == 4  # type: ignore[arg-type]
        page.close()


def test_answer_is_stored_with_the_image_that_shows_it(browser: Browser, run: Path) -> None:
    """The decision about an image comes back when another one is shown."""
    with serving(run) as server:
        visit = Visit(browser, server)
        page = visit.page
        pinned = visit.open_view()
        slow = Slow(page, "decide")
        visit.press("p")
        slow.holds()
        visit.press("ArrowRight")
        expect(page.locator("#view-title")).not_to_have_text(pinned)
        answered = page.locator("#view-title").inner_text()
        slow.let_go()
        visit.message(f"Pinned: {pinned}", "#view-message")
        expect(page.locator("#pin")).to_be_enabled()  # of this image nothing is decided
        visit.press("e")
        page.keyboard.type("What?")
        visit.press("Tab")
        page.keyboard.type("That.")
        visit.press("Control+Enter")
        visit.message("Saved.", "#view-message")
        (record,) = lines(run / "annotations" / "answers.jsonl")
        assert record["image"] == answered
        assert [r["image"] for r in lines(run / "review.jsonl")] == [pinned]
        visit.press("Escape")
        expect(page.locator(f'.card.pin[aria-label^="{pinned}"]')).to_have_count(1)
        page.close()


def test_decision_is_about_the_image_that_is_shown(browser: Browser, run: Path) -> None:
    """The next image is asked for, and has not come."""
    with serving(run) as server:
        visit = Visit(browser, server)
        page = visit.page
        shown = visit.open_view()
        slow = Slow(page, "item?")
        visit.press("ArrowRight")
        slow.holds()
        visit.press("v")
        visit.message(f"Vetoed: {shown}", "#view-message")
        slow.let_go()
        expect(page.locator("#view-title")).not_to_have_text(shown)
        assert [r["image"] for r in lines(run / "review.jsonl")] == [shown]
        page.close()


def test_decisions_are_stored_in_the_order_of_the_keys(browser: Browser, run: Path) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        page = visit.page
        visit.press("ArrowRight")
        image = image_of(page)
        slow = Slow(page, "decide")
        visit.press("v", "p", "u")
        page.select_option("#show", "pinned")  # the image is in no list by the time of the replies
        expect(page.locator("#range")).to_have_text("no image")
        slow.holds()
        slow.let_go()
        visit.message("Left to the selector")
        found = [(r["image"], r["decision"]) for r in lines(run / "review.jsonl")]
        assert found == [(image, "veto"), (image, "pin"), (image, "none")]
        assert visit.complaints == []
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_usable_with_a_screen_reader(
    browser: Browser, run: Path, width: int, scheme: str
) -> None:
    with serving(run) as server:
        visit = Visit(browser, server, width=width, color_scheme=scheme)
        visit.press("ArrowRight", "v")
        visit.message("Vetoed")
        expect(visit.page.locator("#counts")).to_contain_text("1 vetoed")
        assert faults(visit.page) == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.press("Enter")
        expect(visit.page.locator("#view")).to_be_visible()
        expect(visit.page.locator("#pictures img")).to_have_js_property("complete", True)
        assert faults(visit.page) == [] and visit.complaints == []
        visit.page.close()


def test_page_of_50000_images_loads_only_what_it_shows(browser: Browser, tmp_path: Path) -> None:
    write_large(tmp_path)
    begin = time.perf_counter()
    with serving(tmp_path) as server:
        read = time.perf_counter()
        visit = Visit(browser, server)
        page = visit.page
        expect(page.locator("#range")).to_contain_text("1 to 60 of 7,500")
        print(f"read in {read - begin:.2f} s, opened in {time.perf_counter() - read:.2f} s")
        assert page.evaluate("document.querySelectorAll('*').length") < 1500
        expect(page.locator(".card img").first).to_have_js_property("complete", True)
        assert 0 < len(visit.images) <= 60
        page.select_option("#show", "left_out")
        expect(page.locator("#range")).to_contain_text("1 to 60 of 42,500")
        page.select_option("#task", "task-7")
        expect(page.locator("#range")).to_contain_text("1 to 60 of 4,250")
        page.click("#next")
        expect(page.locator("#range")).to_contain_text("61 to 120 of 4,250")
        # from the last image of a page to the first of the next, and back
        page.locator(".card").last.focus()
        last = page.locator(".card").last.get_attribute("title")
        visit.press("ArrowRight")
        expect(page.locator("#range")).to_contain_text("121 to 180")
        visit.press("ArrowLeft")
        expect(page.locator("#range")).to_contain_text("61 to 120")
        assert page.evaluate("document.activeElement.title") == last
        page.fill("#find", "images/3.jpg")
        expect(page.locator("#range")).not_to_contain_text("4,250")
        expect(page.locator(".card").first).to_contain_text("images/3.jpg")
        page.fill("#find", "no such image")
        expect(page.locator("#range")).to_have_text("no image")
        assert len(visit.images) < 500 and visit.complaints == []
        page.close()
