"""A real browser for tests: Debian's chromium without a window, driven by an explicit path."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
Browser = Any


@contextmanager
def chromium(downloads: Path) -> Iterator[Browser]:
    """Start a browser that logs what its pages print and request; skip the test where there is none."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("there is no browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser tests need selenium (the dev extra)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def forget_logs(browser: Browser) -> None:
    for log in ("browser", "performance"):
        browser.get_log(log)


def console(browser: Browser) -> list[str]:
    """Return what was printed to the console since the last call: errors, refused requests, broken policies."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requested(browser: Browser) -> list[str]:
    """Return the addresses that pages asked for since the last call, those within the page itself left out."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "blob:", "about:"))]
