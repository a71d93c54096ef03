"""The page in a browser, for the tests of it, and servers whose replies come late."""

from __future__ import annotations

import re
import time
from typing import Any

from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from presel_lightning.review.server import ReviewServer
from tests.browser import PATIENCE, open_page


class Visit:
    """The page of a server, with what it complained about and asked for."""

    def __init__(self, browser: Browser, server: ReviewServer, **options: Any) -> None:
        viewport: Any = {"width": options.pop("width", 1280), "height": 900}
        self.page: Page = open_page(browser, viewport=viewport, **options)
        self.complaints: list[str] = []
        self.images: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.note(request.url, server))
        # a request that comes just after the first route of an open page may pass it by
        self.page.route(re.compile("/none$"), lambda route: route.continue_())
        self.page.goto(server.address)
        self.page.wait_for_selector(".card")

    def note(self, url: str, server: ReviewServer) -> None:
        if url.startswith(f"{server.address}image?"):
            self.images.append(url)
        elif not url.startswith((server.address, "data:")):
            self.elsewhere.append(url)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def message(self, text: str, place: str = "#message") -> None:
        expect(self.page.locator(place)).to_contain_text(text)

    def settle(self) -> None:
        """Have the page take the replies that it has got: one that is asked for now comes later."""
        self.page.evaluate("fetch('page.css').then((reply) => reply.text())")

    def open_view(self) -> str:
        """Open the first image of the list; returns its file name."""
        self.press("ArrowRight", "Enter")
        title = self.page.locator("#view-title")
        expect(title).to_be_focused()
        return title.inner_text()


def image_of(page: Page) -> str:
    """File name of the card that has the focus."""
    found = page.locator(".card:focus")
    expect(found).to_have_count(1)
    return str(found.get_attribute("aria-label")).split(",")[0]


class Slow:
    """A server that is slow to take one kind of request, until it is let go."""

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.goes = page, False
        self.held: list[Route] = []
        page.route(re.compile(re.escape(f"/{name}")), self._take)

    def _take(self, route: Route) -> None:
        if self.goes:
            route.continue_()
        else:
            self.held.append(route)

    def holds(self, number: int = 1) -> None:
        """Wait until there are so many requests."""
        end = time.monotonic() + PATIENCE / 1000
        while len(self.held) < number:
            assert time.monotonic() < end, "the page does not ask"
            self.page.wait_for_timeout(10)

    def let_go(self) -> None:
        """Let go what is held, and hold nothing from now on."""
        self.goes = True
        while self.held:
            self.pass_on()

    def pass_on(self) -> None:
        """Let go the first that is held."""
        self.held.pop(0).continue_()

    def fail(self) -> None:
        """End the connections of those that are held, and hold nothing from now on."""
        self.goes = True
        while self.held:
            self.held.pop(0).abort()


class Late(Slow):
    """A server that answers at once, but whose replies to one kind of request come late."""

    def __init__(self, page: Page, name: str) -> None:
        super().__init__(page, name)
        self.replies: list[APIResponse] = []

    def _take(self, route: Route) -> None:
        if not self.goes:
            self.replies.append(route.fetch())
        super()._take(route)

    def pass_on(self) -> None:
        """Hand on the first reply that is held."""
        self.held.pop(0).fulfill(response=self.replies.pop(0))
