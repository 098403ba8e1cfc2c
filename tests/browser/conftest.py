"""A browser for tests: Debian's Chromium, driven by Playwright. Without one the tests skip, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# What keeps Chromium from calling home, and lets it run as root in a container.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 180_000  # milliseconds: a page of the UI on a machine that is busy with other tests


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium is installed (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api")
    api.expect.set_options(timeout=PATIENCE)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if outcome.get_result().failed:
        item.stash[FAILED] = True


FAILED = pytest.StashKey[bool]()


@pytest.fixture
def page(browser: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A page; `page.elsewhere` are the requests that it made to other hosts. A test that fails leaves a screenshot."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    page.elsewhere = []

    def note(asked: Any) -> None:
        if not asked.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            page.elsewhere.append(asked.url)

    page.on("request", note)
    yield page
    if request.node.stash.get(FAILED, False):
        page.screenshot(path=tmp_path / "failure.png", full_page=True)
        request.node.add_report_section("teardown", "screenshot", f"{page.url}: {tmp_path / 'failure.png'}")
    page.close()
