"""The system's Chromium, for tests that open pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.optional import require, require_browser

require("playwright")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it; nothing is downloaded."""
    program = require_browser()
    with sync_playwright() as driver:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
        browser = driver.chromium.launch(executable_path=program, args=sandbox)
        yield browser
        browser.close()


def faults(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
