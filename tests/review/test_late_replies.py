"""The page beside a slow server: replies come late, in another order, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from presel_lightning.review import session
from tests.review.runs import serving
from tests.review.visits import Late, Slow, Visit, image_of


def test_counts_are_those_of_the_last_decision(browser: Browser, run: Path) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        counts = visit.page.locator("#counts")
        expect(counts).to_contain_text("0 vetoed, 0 pinned")
        late = Late(visit.page, "state")
        visit.press("ArrowRight", "v")
        late.holds()
        late.goes = True  # the next one is not held
        visit.press("p")
        expect(counts).to_contain_text("0 vetoed, 1 pinned")
        late.let_go()
        visit.settle()
        expect(counts).to_contain_text("0 vetoed, 1 pinned")
        assert visit.complaints == []
        visit.page.close()


def test_decision_of_the_list_shows_in_the_view_that_was_opened_since(
    browser: Browser, run: Path
) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        slow = Slow(visit.page, "decide")
        visit.press("ArrowRight", "v")
        slow.holds()
        visit.press("Enter")
        expect(visit.page.locator("#view-title")).to_be_focused()
        slow.let_go()
        visit.message("Vetoed", "#view-message")
        expect(visit.page.locator("#veto")).to_be_disabled()
        expect(visit.page.locator("#facts")).to_contain_text("vetoed")
        visit.page.close()


@pytest.mark.parametrize("answers", [True, False], ids=["stored", "not stored"])
def test_result_of_a_decision_is_shown_when_the_view_was_closed_since(
    browser: Browser, run: Path, answers: bool
) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        visit.open_view()
        slow = Slow(visit.page, "decide")
        visit.press("v")
        slow.holds()
        visit.press("Escape")
        expect(visit.page.locator("#view")).to_be_hidden()
        if answers:
            slow.let_go()
            visit.message("Vetoed")
        else:
            slow.fail()
            visit.message("the server has ended")
        visit.page.close()


def test_view_shows_what_was_decided_while_it_was_on_its_way(browser: Browser, run: Path) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        late = Late(visit.page, "item?")
        visit.press("ArrowRight", "Enter")
        late.holds()
        visit.press("v")
        visit.message("Vetoed")
        late.let_go()
        expect(visit.page.locator("#view-title")).to_be_focused()
        expect(visit.page.locator("#veto")).to_be_disabled()
        expect(visit.page.locator("#facts")).to_contain_text("vetoed")
        visit.page.close()


def test_list_shows_what_was_decided_while_it_was_on_its_way(browser: Browser, run: Path) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        visit.press("ArrowRight")
        image = image_of(visit.page)
        late = Late(visit.page, "items?")
        visit.page.evaluate("document.getElementById('find').dispatchEvent(new Event('input'))")
        late.holds()
        visit.press("v")
        expect(visit.page.locator("#counts")).to_contain_text("1 vetoed")
        late.let_go()
        visit.settle()
        expect(visit.page.locator(f'.card.veto[aria-label^="{image}"]')).to_have_count(1)
        visit.page.close()


def test_two_keys_at_the_end_of_a_page_lead_to_the_next_page(
    browser: Browser, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PER_PAGE", 5)
    with serving(run) as server:
        visit = Visit(browser, server)
        page = visit.page
        page.locator(".card").last.focus()
        last = image_of(page)
        slow = Slow(page, "items?")
        visit.press("ArrowRight", "ArrowRight")
        slow.holds(2)
        slow.pass_on()
        visit.settle()
        assert image_of(page) == last
        slow.let_go()
        expect(page.locator("#range")).to_contain_text("6 to 10 of 12")
        expect(page.locator(".card").first).to_be_focused()
        page.close()


def test_image_that_does_not_come_is_reported_in_the_view(browser: Browser, run: Path) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        first = visit.open_view()
        slow = Slow(visit.page, "item?")
        visit.press("ArrowRight")
        slow.holds()
        slow.fail()
        visit.message("the server has ended", "#view-message")
        expect(visit.page.locator("#view-title")).to_have_text(first)
        visit.press("ArrowRight")
        expect(visit.page.locator("#view-title")).not_to_have_text(first)
        visit.press("ArrowLeft")
        expect(visit.page.locator("#view-title")).to_have_text(first)
        visit.page.close()


def test_name_of_the_score_is_shown_in_a_view_that_was_opened_before_it_came(
    browser: Browser, run: Path
) -> None:
    with serving(run) as server:
        visit = Visit(browser, server)
        slow = Slow(visit.page, "state")
        visit.page.reload()
        visit.page.wait_for_selector(".card")
        visit.open_view()
        slow.holds()
        slow.let_go()
        expect(visit.page.locator("#facts")).to_contain_text("score of Random")
        visit.page.close()


def test_page_behind_a_list_that_has_shrunk_leads_back(
    browser: Browser, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PER_PAGE", 6)
    with serving(run) as server:
        visit = Visit(browser, server)
        page = visit.page
        page.select_option("#show", "waiting")
        expect(page.locator("#range")).to_contain_text("1 to 6 of 12")
        behind = server.session.page("waiting")["items"][-1]["place"] + 1
        for item in server.session.page("waiting", start=behind)["items"]:
            server.session.answer(item["uid"], [("What?", "That.")])
        page.click("#next")
        expect(page.locator("#range")).to_have_text("no image")
        page.click("#back")
        expect(page.locator("#range")).to_contain_text("1 to 6 of 6")
        page.close()
