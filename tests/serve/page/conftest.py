"""The web page in a browser, before a server that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Browser, chromium
from tests.serve.page.pages import Open, Page
from tests.serve.page.standin import Script, serving, stand_in

from heedful.config import Config
from heedful.run import Run


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(downloads: Path) -> Iterator[Browser]:
    with chromium(downloads) as driver:
        yield driver


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An empty run directory."""
    run = Run(tmp_path / "my run")
    run.path.mkdir()
    run.write_config(Config())
    return run


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def open_page(browser: Browser, script: Script, run: Run, downloads: Path) -> Iterator[Open]:
    """Open the page before the stand-in. Each server has a port of its own, so each test finds an empty storage.

    When the test is over, nothing may have been printed to the console, and nothing asked of another origin.
    """
    with ExitStack() as stack:
        pages: list[Page] = []

        def open_page(app: Any = None, run: Run | None = run, **kind: Any) -> Page:
            address = stack.enter_context(serving(app or stand_in(script, run)))
            pages.append(Page(browser, address, downloads, **kind))
            return pages[-1]

        yield open_page
        for page in pages:
            page.check_silence()
