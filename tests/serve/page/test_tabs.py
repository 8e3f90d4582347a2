"""Several tabs of the page, and texts that are being typed in it: neither loses anything to what happens beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver.support.ui import Select
from tests.serve.page.pages import Open, Page
from tests.serve.page.standin import Script


@pytest.fixture
def page(open_page: Open, script: Script) -> Page:
    """A page whose conversation begins with "One"."""
    script.say = lambda body: [f"Answer to {body['messages'][-1]['content']}."]
    page = open_page()
    page.send("One")
    return page


@contextmanager
def second_tab(page: Page) -> Iterator[None]:
    """Open the same address in another tab; afterwards it is closed, and the first one looked at."""
    first, address = page.browser.current_window_handle, page.browser.current_url
    page.browser.switch_to.new_window("tab")
    size = {"width": 1280, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.browser.get(address)
    page.wait(lambda: page.all(".bubble"))
    yield
    page.browser.close()
    page.browser.switch_to.window(first)


def test_a_tab_shows_what_another_one_adds(page: Page) -> None:
    with second_tab(page):
        page.send("Two")
        page.send("Three")
    page.wait(lambda: page.texts(".bubble") == ["One", "Two", "Three"])
    page.send("Four")
    page.browser.refresh()
    page.wait(lambda: page.texts(".bubble") == ["One", "Two", "Three", "Four"])
    assert page.answers()[1] == "Answer to Two."


def test_a_tab_that_was_not_told_writes_over_nothing(page: Page) -> None:
    with second_tab(page):
        page.js("BroadcastChannel.prototype.postMessage = () => {}")
        page.send("Two")
    assert page.texts(".bubble") == ["One"]
    page.send("Three")
    page.wait(lambda: sorted(page.texts(".bubble")) == ["One", "Three", "Two"])
    page.rest()
    page.browser.refresh()
    page.wait(lambda: sorted(page.answers()) == ["Answer to One.", "Answer to Three.", "Answer to Two."])


def test_a_tab_answers_on_while_another_one_writes(page: Page, script: Script) -> None:
    with second_tab(page):
        script.say, script.pause = lambda body: ["slow "] * 600, 0.1
        page.type("Two\n")
        page.wait(lambda: "slow" in page.text(".exchange:nth-child(2) .answer .body"))
        second = page.browser.current_window_handle
        (first,) = {*page.browser.window_handles} - {second}
        page.browser.switch_to.window(first)
        page.wait(lambda: page.texts(".bubble") == ["One", "Two"])
        script.say = lambda body: ["quick"]
        page.press("Try again", 0)
        page.wait(lambda: page.answers()[0] == "quick")
        page.browser.switch_to.window(second)
        page.wait(lambda: page.answers()[0] == "quick")
        script.pause = 0.0
        page.rest()
    whole = ["quick", ("slow " * 600).strip()]
    page.wait(lambda: page.answers() == whole)
    page.browser.refresh()
    page.wait(lambda: page.answers() == whole)


def test_a_better_answer_stays_while_another_tab_asks_again(page: Page, script: Script) -> None:
    with second_tab(page):
        script.say, script.pause = lambda body: ["slow "] * 600, 0.1
        page.press("Try again", 0)
        page.wait(lambda: "slow" in page.answers()[0])
        second = page.browser.current_window_handle
        (first,) = {*page.browser.window_handles} - {second}
        page.browser.switch_to.window(first)
        page.press("Write a better answer", 0)
        page.replace(".answer .edit textarea", "A better one")
        page.click(".answer .edit .primary")
        page.wait(lambda: page.texts(".tag"))
        page.browser.switch_to.window(second)
        script.pause = 0.0
        page.rest()
    page.browser.refresh()
    page.wait(lambda: page.texts(".number") == ["2 / 2"])
    page.press("Previous answer", 0)
    page.wait(lambda: page.texts(".tag"))


def test_a_rating_on_its_way_stays_when_another_tab_writes(page: Page) -> None:
    page.js(
        "const send = window.fetch; window.held = new Promise((done) => { window.letGo = done; });"
        "window.fetch = async (...asked) => { if (`${asked[0]}`.includes('feedback')) await window.held;"
        " return send(...asked); };"
    )
    page.press("Good answer", 0)
    with second_tab(page):
        page.send("Two")
    page.wait(lambda: page.texts(".bubble") == ["One", "Two"])
    page.js("window.letGo()")
    kept = """const { openStore } = await import("/page/store.js");
    return (await (await openStore()).load())[0].exchanges[0].lanes[0].answers[0].rating;"""
    page.wait(lambda: page.js(kept) == "up")
    page.browser.refresh()
    page.wait(lambda: page.texts(".bubble") == ["One", "Two"])
    page.wait(lambda: page.all("button[aria-pressed=true]"))


def test_what_one_tab_deletes_stays_away_in_all(page: Page) -> None:
    with second_tab(page):
        page.browser.execute_script("arguments[0].focus()", page.one(".list a"))
        page.press("Delete One")
        page.wait(lambda: page.all(".welcome"))
    page.wait(lambda: page.all(".welcome"))
    page.send("Another")
    page.browser.refresh()
    page.wait(lambda: page.texts(".list a") == ["Another"])


def test_a_deletion_that_is_undone_is_undone_in_all_tabs(page: Page) -> None:
    with second_tab(page):
        page.browser.execute_script("arguments[0].focus()", page.one(".list a"))
        page.press("Delete One")
        page.click(".toast button")
        page.wait(lambda: page.texts(".list a") == ["One"])
    page.wait(lambda: page.texts(".list a") == ["One"])
    page.click(".list a")
    page.wait(lambda: page.answers() == ["Answer to One."])


def test_what_is_being_typed_outlives_what_happens_beside_it(page: Page, script: Script) -> None:
    page.choose("both")
    page.send("Two")
    page.press("Write a better answer", 1)
    page.replace(".answer .edit textarea", "A longer thought")
    page.press("Edit the message", 0)
    page.replace(".prompt .edit textarea", "A longer question")
    page.press("Try again", -1)
    page.rest()
    page.choose("tiny")
    page.click("#open-settings")
    Select(page.one("#language")).select_by_value("zh")
    page.press("关闭")
    page.one(".prompt .edit textarea").click()
    with second_tab(page):
        page.send("Three")
    page.wait(lambda: "Three" in page.texts(".bubble"))
    page.browser.switch_to.active_element.send_keys("?")
    typed = [page.one(f".{part} .edit textarea").get_attribute("value") for part in ("prompt", "answer")]
    assert typed == ["A longer question?", "A longer thought"]
    page.click(".answer .edit .primary")
    page.wait(lambda: page.texts(".tag"))
    page.click(".prompt .edit .quiet[type=button]")
    assert page.texts(".edit") == [] and "One" in page.texts(".bubble")
