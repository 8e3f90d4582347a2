"""The page as somebody sees it: what stands on it, and what can be done there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from tests.browser import Browser, console, forget_logs, requested

PATIENCE = 60.0  # seconds; the machine may be busy


class Page:
    """heedful's page, opened at an address. `width` under 600 is a phone."""

    def __init__(
        self,
        browser: Browser,
        address: str,
        downloads: Path,
        width: int = 1280,
        language: str = "en",
        ready: bool = True,
    ) -> None:
        self.browser, self.address, self.downloads = browser, address, downloads
        self.allowed_messages: list[str] = []  # of the console, where a test provokes a refusal
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        agent = {"userAgent": browser.execute_script("return navigator.userAgent"), "acceptLanguage": language}
        browser.execute_cdp_cmd("Emulation.setUserAgentOverride", agent)
        self.prefer("light")
        browser.get("about:blank")
        forget_logs(browser)
        browser.get(address)
        if ready:
            self.wait(lambda: self.all(".welcome"))

    def prefer(self, scheme: str) -> None:
        """Let the system be "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def wait(self, until: Callable[[], Any]) -> Any:
        """Wait until something is there, and give it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if found := until():
                    return found
            except (NoSuchElementException, StaleElementReferenceException):
                pass
            time.sleep(0.02)
        raise AssertionError(f"it never came; the page says: {self.text('body')}")

    def all(self, selector: str) -> list[Any]:
        return [found for found in self.browser.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def one(self, selector: str) -> Any:
        return self.wait(lambda: self.all(selector))[0]

    def text(self, selector: str) -> str:
        return str(self.browser.find_element(By.CSS_SELECTOR, selector).text)

    def texts(self, selector: str) -> list[str]:
        return [found.text for found in self.all(selector)]

    def click(self, selector: str, number: int = 0) -> None:
        """Click the n-th of what is there, scrolled into view and hovered as a person would."""
        self.one(selector)
        element = self.all(selector)[number]
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, label: str, number: int = 0) -> None:
        """Press a button by its accessible name; those that show only under the pointer are shown to it first."""
        self.wait(lambda: self.browser.find_elements(By.CSS_SELECTOR, f'button[aria-label="{label}"]'))
        self.click(f'button[aria-label="{label}"]', number)

    def type(self, text: str, selector: str = "#prompt") -> None:
        self.one(selector).send_keys(text)

    def replace(self, selector: str, text: str) -> None:
        field = self.one(selector)
        field.clear()
        field.send_keys(text)

    def choose(self, mode: str) -> None:
        """Choose the model, or "Side by side"."""
        (choice,) = self.browser.find_elements(By.CSS_SELECTOR, f'.models input[value="{mode}"]')
        self.browser.execute_script("arguments[0].click()", choice)

    def send(self, text: str) -> None:
        """Send a message and wait for its answers."""
        before = len(self.all(".exchange"))
        self.type(text + Keys.ENTER)
        self.wait(lambda: len(self.all(".exchange")) > before)
        self.rest()

    def rest(self) -> None:
        """Wait until no answer is being written."""
        self.wait(lambda: self.all(".answer") and not self.all('.answer[aria-busy="true"]'))

    def answers(self) -> list[str]:
        return self.texts(".answer .body")

    def js(self, body: str, *arguments: Any) -> Any:
        """Run an async function's body in the page; give what it returns."""
        run = f"(async (...args) => {{ {body} }})(...arguments).then(done, (error) => done(`failed: ${{error}}`))"
        code = f"const done = arguments[arguments.length - 1]; {run}"
        return self.browser.execute_async_script(code, *arguments)

    def downloaded(self, pattern: str) -> Path:
        found: list[Path] = self.wait(lambda: list(self.downloads.glob(pattern)))
        return found[0]

    def check_silence(self) -> None:
        """Fail if the page printed anything, or asked another origin for anything."""
        printed = [text for text in console(self.browser) if not any(known in text for known in self.allowed_messages)]
        assert printed == []
        foreign = [url for url in requested(self.browser) if not url.startswith(self.address + "/")]
        assert foreign == []


Open = Callable[..., Page]
