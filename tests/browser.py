"""The system's Chromium, for tests that open pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.optional import require, require_browser

require("playwright")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE = 120_000
"""Milliseconds that a start, a page or an expectation may take on a machine with other work."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it; nothing is downloaded."""
    expect.set_options(timeout=PATIENCE)
    program = require_browser()
    with sync_playwright() as driver:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
        browser = driver.chromium.launch(executable_path=program, args=sandbox, timeout=PATIENCE)
        yield browser
        browser.close()


def open_page(browser: Browser, **options: Any) -> Page:
    """An empty page that waits as patiently."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    return page


def faults(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
