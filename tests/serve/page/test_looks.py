"""The page in another language, on a phone, by keyboard and screen reader, and without another host."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.support.ui import Select
from tests.serve.page.pages import Open
from tests.serve.page.standin import Script

from heedful.run import Run


def test_chinese(open_page: Open) -> None:
    page = open_page(language="zh-CN")
    assert page.text(".welcome h1") == "想试点什么？"
    assert page.browser.execute_script("return document.documentElement.lang") == "zh-Hans"
    page.click("#open-settings")
    Select(page.one("#language")).select_by_value("en")
    page.wait(lambda: page.text("#settings h2") == "Settings")
    page.press("Close")
    page.browser.refresh()
    page.wait(lambda: page.text(".welcome h1") == "What shall we try?")


def test_both_languages_have_every_text_with_the_same_gaps(open_page: Open) -> None:
    texts = open_page().js(
        """const { LANGUAGES } = await import("/page/text.js");
        return Object.fromEntries(Object.entries(LANGUAGES).map(([code, { words }]) => [code, words]));"""
    )
    assert list(texts["en"]) == list(texts["zh"])
    for name, english in texts["en"].items():
        if isinstance(english, str):
            gaps = [sorted(part.split("}")[0] for part in text.split("{")[1:]) for text in (english, texts["zh"][name])]
            assert gaps[0] == gaps[1], name


def test_one_token_is_told_as_one(open_page: Open, script: Script) -> None:
    page = open_page()
    for pieces, told in ((["Yes"], "1 token, "), (["Yes", "."], "2 tokens, ")):
        script.say = lambda body, pieces=pieces: pieces  # type: ignore[misc]
        page.send("Hello")
        page.wait(lambda told=told: page.texts(".facts")[-1].startswith(told))


def test_a_phone_shows_all_in_its_width(open_page: Open, script: Script) -> None:
    script.say = lambda body: ["```\n", "x" * 300, "\n```\n", "word " * 50]
    page = open_page(width=360)
    page.choose("both")
    page.send("Hello " + "y" * 200)
    wide = page.browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    first, second = (lane.rect for lane in page.all(".answer"))
    assert first["y"] + first["height"] <= second["y"]
    assert page.browser.execute_script("return document.getElementById('sidebar').inert")
    page.press("Conversations")
    page.wait(lambda: page.one("#new").rect["x"] >= 0)
    page.click("#new")
    page.wait(lambda: page.all(".welcome"))


def test_everything_can_be_reached_and_is_named(open_page: Open) -> None:
    page = open_page()
    page.send("Hello")
    reached = set()
    page.browser.execute_script("document.activeElement.blur()")
    for _ in range(40):
        active = page.browser.switch_to.active_element
        page.browser.execute_cdp_cmd(
            "Input.dispatchKeyEvent", {"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        )
        active = page.browser.switch_to.active_element
        reached.add(active.accessible_name)
    wanted = {
        "New conversation",
        "Settings",
        "The run",
        "Message",
        "Copy",
        "Try again",
        "Good answer",
        "Tuned",
        "Hello",
    }
    assert wanted | {"Skip to the message field", "Tokens and their probabilities", "Edit the message"} <= reached
    assert "" not in [button.accessible_name for button in page.all("button")]
    assert (
        page.browser.execute_script("return document.getElementById('spoken').textContent") == "Tuned: Yes, of course."
    )


def test_the_report_reaches_nothing(open_page: Open, run: Run) -> None:
    hostile = """<h1>Report</h1><img src="http://evil.invalid/x.png"><script>
    const told = [];
    try { told.push(parent.document.title) } catch (e) { told.push("no parent") }
    try { localStorage.x = 1; told.push("storage") } catch (e) { told.push("no storage") }
    fetch("/feedback").then(() => told.push("network"), () => told.push("no network")).then(() => {
      document.querySelector("h1").textContent = told.join(", ") });
    </script>"""
    (run.path / "report.html").write_text(hostile, encoding="utf-8")
    page = open_page()
    page.allowed_messages = [
        "violates the following Content Security Policy",
        "Failed to load resource",
        "evil.invalid",
    ]
    page.click("#open-run")
    page.browser.switch_to.frame(page.one("iframe"))
    page.wait(lambda: page.text("h1") == "no parent, no storage, no network")
    page.browser.switch_to.default_content()


def test_the_run_is_a_place_of_its_own(open_page: Open) -> None:
    page = open_page()
    page.send("Hello")

    def place() -> tuple[str, list[str], int]:
        marked = page.texts("[aria-current=page]")
        return page.browser.title, marked, len(page.browser.find_elements("css selector", "#skip:not([hidden])"))

    page.click("#open-run")
    page.wait(lambda: place() == ("The run · heedful", ["The run"], 0))
    page.click(".list a")
    page.wait(lambda: place() == ("Hello · heedful", ["Hello"], 1))


def test_a_report_is_shown_when_it_is_there(open_page: Open, run: Run) -> None:
    page = open_page()
    page.click("#open-run")
    page.wait(lambda: "heedful report" in page.text("#run"))
    (run.path / "report.html").write_text("<h1>Report</h1>", encoding="utf-8")
    page.click("#open-run")
    page.one("#run iframe")


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_report_has_the_theme_of_the_page(open_page: Open, run: Run, system: str) -> None:
    report = '<meta name="color-scheme" content="light dark"><h1>Report</h1>'
    (run.path / "report.html").write_text(report, encoding="utf-8")
    page = open_page()

    def is_dark() -> bool:
        page.browser.switch_to.frame(page.one("iframe"))
        page.wait(lambda: page.text("h1") == "Report")
        dark = page.browser.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
        page.browser.switch_to.default_content()
        return bool(dark)

    page.prefer(system)
    page.click("#open-run")
    assert is_dark() == (system == "dark")
    for theme, dark in (("dark", True), ("light", False), ("auto", system == "dark")):
        page.click("#open-settings")
        Select(page.one("#theme")).select_by_value(theme)
        page.press("Close")
        page.wait(lambda dark=dark: is_dark() == dark)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_silent(open_page: Open, width: int, tmp_path: Path) -> None:
    page = open_page(width=width)
    page.send("Hello")
    page.browser.refresh()
    page.wait(lambda: page.all(".answer"))
