"""The page's settings are sent as shown, kept, and left to the server where nobody chose them."""

from __future__ import annotations

from tests.serve.page.pages import Open
from tests.serve.page.standin import Script

from heedful.records import Sampling


def test_sampling_settings_are_sent_and_kept(open_page: Open, script: Script) -> None:
    page = open_page()
    page.click("#open-settings")
    page.browser.execute_script(
        """for (const [id, value] of [["temperature", 0.8], ["topP", 0.9], ["repetition", 1.1], ["maxTokens", 64]]) {
        const input = document.getElementById(id); input.value = value; input.dispatchEvent(new Event("input")); }"""
    )
    page.type("7", "#seed")
    page.press("Close")
    page.browser.refresh()
    page.send("Hello")
    names = ("temperature", "top_p", "repetition_penalty", "max_tokens", "seed")
    assert [script.asked[-1][name] for name in names] == [0.8, 0.9, 1.1, 64, 7]
    page.click("#open-settings")
    page.click(".link")
    page.press("Close")
    page.send("Hello")
    assert not {*names[:3], "seed"} & set(script.asked[-1])


def test_the_server_s_settings_hold_and_are_shown_until_they_are_changed(open_page: Open, script: Script) -> None:
    script.sampling = Sampling(temperature=0.65, top_p=0.95, repetition_penalty=1.3, max_tokens=96)
    page = open_page()
    page.send("Hello")
    asked = script.asked[-1]
    assert not {"temperature", "top_p", "repetition_penalty"} & set(asked) and asked["max_tokens"] == 96
    assert page.one(".facts").get_attribute("title") == f"temperature 0.65, seed {asked['seed']}"
    page.click("#open-settings")
    assert page.texts("#settings output") == ["0.65", "0.95", "1.3", "96"]
    page.browser.execute_script(
        "const t = document.getElementById('topP'); t.value = 0.5; t.dispatchEvent(new Event('input'));"
    )
    page.press("Close")
    page.press("Try again")
    page.wait(lambda: len(script.asked) == 2)
    page.rest()
    again = script.asked[-1]
    assert again["top_p"] == 0.5 and "temperature" not in again and again["seed"] != asked["seed"]


def test_the_slider_holds_the_number_that_it_shows(open_page: Open, script: Script) -> None:
    script.sampling = Sampling(max_tokens=1000)
    page = open_page()
    page.click("#open-settings")
    assert page.one("#maxTokens").get_attribute("value") == page.texts("#settings output")[-1] == "1000"


def test_numbers_that_an_earlier_page_kept_though_nobody_chose_them_are_left_to_the_server(
    open_page: Open, script: Script
) -> None:
    script.sampling = Sampling(temperature=0.65, top_p=0.95, repetition_penalty=1.3, max_tokens=96)
    page = open_page()
    page.js(
        """const all = { system: "", temperature: 0, topP: 1, maxTokens: 256, repetition: 1, seed: null };
        localStorage.setItem("heedful-settings", JSON.stringify(all));"""
    )
    page.browser.refresh()
    page.send("Hello")
    asked = script.asked[-1]
    assert not {"temperature", "top_p", "repetition_penalty"} & set(asked) and asked["max_tokens"] == 96


def test_an_answer_may_take_half_the_context(open_page: Open, script: Script) -> None:
    script.sampling, script.positions = Sampling(max_tokens=1024), 301
    page = open_page()
    page.send("Hello")
    page.click("#open-settings")
    assert page.texts("#settings output")[-1] == "150"
    assert page.one("#maxTokens").get_attribute("max") == "150"
    page.js("localStorage.setItem('heedful-page', JSON.stringify({ maxTokens: 900 }));")
    page.browser.refresh()
    page.wait(lambda: page.all(".answer"))
    page.send("Hello")
    assert [asked["max_tokens"] for asked in script.asked] == [150, 150]


def test_one_model_is_not_a_choice(open_page: Open, script: Script) -> None:
    script.models = ("alone",)
    page = open_page(run=None)
    page.wait(lambda: page.texts("#models") == ["alone"])
    assert not page.all(".models input")
    page.send("Hello")
    assert not page.browser.find_elements("css selector", '[aria-label="Good answer"]')
    assert not page.all("#open-run")
