"""The web page in a real browser: what somebody does there, and what then happens."""

from __future__ import annotations

import json

from selenium.webdriver.common.keys import Keys
from tests.serve.page.pages import Open
from tests.serve.page.standin import Script

from heedful.run import Run
from heedful.serve.feedback import Feedback


def test_a_message_is_answered(open_page: Open, script: Script) -> None:
    page = open_page()
    page.type("Is it so?")
    page.type(Keys.SHIFT + Keys.ENTER)
    page.send("Really?")
    assert page.texts(".bubble") == ["Is it so?\nReally?"]
    assert page.answers() == ["Yes, of course."]
    page.send("And now?")
    assert script.shown() == [
        ("user", "Is it so?\nReally?"),
        ("assistant", "Yes, of course."),
        ("user", "And now?"),
    ]
    asked = script.asked[-1]
    assert (asked["model"], asked["stream"], asked["logprobs"]) == ("tiny", True, True)


def test_an_answer_is_shown_while_it_comes_and_can_be_stopped(open_page: Open, script: Script) -> None:
    script.say, script.pause = lambda body: [f"word{n} " for n in range(1000)], 0.02
    page = open_page()
    page.type("Go on" + Keys.ENTER)
    page.wait(lambda: "word3" in page.text(".answer .body"))
    assert page.one("#send").accessible_name == "Stop"
    page.press("Stop")
    page.rest()
    assert page.texts(".outcome") == ["Stopped."]
    assert page.one("#send").accessible_name == "Send"
    kept = page.answers()[0]
    page.wait(lambda: script.left == 1)  # the stream's end was never reached: the server was told
    script.say, script.pause = lambda body: ["Fine."], 0
    page.send("And?")
    assert script.shown()[1] == ("assistant", kept + " ")


def test_escape_stops_too_and_a_typed_enter_does_not(open_page: Open, script: Script) -> None:
    script.say, script.pause = lambda body: ["word "] * 1000, 0.02
    page = open_page()
    page.type("Go on" + Keys.ENTER)
    page.wait(lambda: "word" in page.text(".answer .body"))
    page.type("next" + Keys.ENTER)
    assert page.all('.answer[aria-busy="true"]')
    page.type(Keys.ESCAPE)
    page.rest()
    assert page.one("#prompt").get_attribute("value") == "next"


def test_another_try_is_kept_beside_the_first(open_page: Open, script: Script) -> None:
    script.say = lambda body: [f"Answer {len(script.asked)}."]
    page = open_page()
    page.send("Tell me")
    page.press("Try again")
    page.wait(lambda: page.answers() == ["Answer 2."])
    page.rest()
    assert [asked.get("temperature") for asked in script.asked] == [None, 0.7]
    assert "seed" not in script.asked[0] and script.asked[1]["seed"] >= 0
    assert page.texts(".versions") == ["2 / 2"]
    page.press("Previous answer")
    assert page.answers() == ["Answer 1."]
    page.send("Next")
    assert ("assistant", "Answer 1.") in script.shown()


def test_a_changed_message_takes_the_place_of_all_that_followed(open_page: Open, script: Script) -> None:
    page = open_page()
    page.send("First")
    page.send("Second")
    page.press("Edit the message", 0)
    page.replace(".prompt .edit textarea", "Better")
    page.click(".prompt .edit .primary")
    page.wait(lambda: page.texts(".bubble") == ["Better"])
    page.rest()
    assert script.shown() == [("user", "Better")]
    page.send("Third")
    page.click(".toast button")  # what was sent since stays
    page.wait(lambda: page.texts(".bubble") == ["First", "Second", "Third"])
    page.browser.refresh()
    page.wait(lambda: page.texts(".bubble") == ["First", "Second", "Third"])


def test_what_another_model_answered_can_be_asked_again(open_page: Open, script: Script, run: Run) -> None:
    """Another one may be served at the same address; what was said keeps its author."""
    page = open_page()
    page.choose("both")
    page.send("First")
    page.choose("tiny")
    page.send("Second")
    script.models = ("other",)
    page.browser.refresh()
    page.wait(lambda: page.texts("#models") == ["other"])
    page.press("Try again", 1)
    page.wait(lambda: "2 / 2" in page.texts(".number"))
    page.rest()
    page.press("Previous answer")
    page.press("Good answer", 1)
    page.wait(lambda: Feedback(run).opinions())
    assert [opinion.model for opinion in Feedback(run).opinions()] == ["tiny-base"]
    page.press("Edit the message", 1)
    page.replace(".prompt .edit textarea", "Better")
    page.click(".prompt .edit .primary")
    page.wait(lambda: page.texts(".bubble") == ["First", "Better"])
    page.rest()
    assert [asked["model"] for asked in script.asked] == ["tiny", "tiny-base", "tiny", "other", "other"]


def test_both_models_answer_at_once(open_page: Open, script: Script) -> None:
    script.say, script.pause = lambda body: [body["model"], " says", " so", "."], 0.05
    page = open_page()
    page.choose("both")
    page.type("Who?" + Keys.ENTER)
    page.wait(lambda: len(page.all('.answer[aria-busy="true"]')) == 2)
    page.rest()
    assert page.texts(".label") == ["Tuned", "Base"]
    assert page.answers() == ["tiny says so.", "tiny-base says so."]
    left, right = (lane.rect for lane in page.all(".answer"))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    page.send("And then?")
    assert [script.shown(-2)[1], script.shown(-1)[1]] == [
        ("assistant", f"{asked['model']} says so.") for asked in script.asked[-2:]
    ]


def test_tokens_show_their_probability_and_what_else_was_likely(open_page: Open, script: Script) -> None:
    script.say = lambda body: ["Jane", " Austen", "\n", "."]
    page = open_page()
    page.send("Who?")
    page.press("Tokens and their probabilities")
    tokens = page.all(".token")
    assert [token.accessible_name for token in tokens] == ["Jane, 98%", "Austen, 67%", "space, 20%", "., 90%"]
    page.browser.execute_script("arguments[0].focus()", tokens[0])
    tokens[0].send_keys(Keys.ARROW_RIGHT)
    assert page.texts(".alternatives code") == ["·Austen", "·other", "↵"]
    assert page.texts(".alternatives .number") == ["67%", "30%", "1.1%"]
    assert page.browser.switch_to.active_element.accessible_name == "Austen, 67%"
    page.press("Tokens and their probabilities")
    assert page.answers() == ["Jane Austen\n."]


def test_a_token_can_be_part_of_a_character(open_page: Open) -> None:
    page = open_page()
    kept = page.js(
        """const { keepToken } = await import("/page/tokens.js");
        const entry = { token: "bytes", bytes: [0xe4, 0xb8], logprob: -1, top_logprobs: [] };
        return [keepToken(entry).text, keepToken({ ...entry, bytes: [0xe4, 0xb8, 0x96] }).text];"""
    )
    assert kept == ["⟨e4 b8⟩", "世"]


def test_oldest_turns_are_left_out_where_the_context_ends(open_page: Open, script: Script) -> None:
    too_long = {"message": "17 + 3 are over 18.", "code": "context_length_exceeded"}
    script.refuse = lambda body: (400, too_long) if len(body["messages"]) > 3 else None
    page = open_page()
    page.allowed_messages = ["400 (Bad Request)", "413 ("]
    for text in ("One", "Two", "Three"):
        page.send(text)
    assert [content for _, content in script.shown()] == ["Two", "Yes, of course.", "Three"]
    assert "oldest turns were left out" in page.texts(".outcome")[-1]
    refusals = len(script.asked)
    page.send("Four")  # the turn that was left out is not tried again
    assert [content for _, content in script.shown()] == ["Three", "Yes, of course.", "Four"]
    assert len(script.asked) == refusals + 2
    script.refuse = lambda body: (413, {"message": "Large.", "code": "body_too_large"})
    page.send("Five")
    assert page.texts(".outcome")[-1] == "This message is too long for the model."


def test_a_message_that_leaves_little_room_is_answered_in_it(open_page: Open, script: Script) -> None:
    too_long = {"message": "200 + 150 are over 301.", "code": "context_length_exceeded"}
    script.positions = 301
    script.refuse = lambda body: (400, too_long) if "max_tokens" in body or len(body["messages"]) > 1 else None
    page = open_page()
    page.allowed_messages = ["400 (Bad Request)"]
    for text in ("One", "Two"):
        page.send(text)
        assert page.answers()[-1] == "Yes, of course."
        assert script.shown() == [("user", text)]


def test_refusals_are_sentences_and_can_be_tried_again(open_page: Open, script: Script) -> None:
    script.refuse = lambda body: (429, {"message": "Busy."})
    page = open_page()
    page.allowed_messages = ["429 (Too Many", "503 (Service", "500 (Internal"]
    page.send("Hello")
    assert page.texts(".outcome") == ["The server is busy. Try again in 3 s."]
    script.refuse = lambda body: (503, {"message": "Shutting down."})
    page.press("Try again")
    page.wait(lambda: page.texts(".outcome") == ["That did not work: Shutting down."])
    page.rest()
    script.refuse = lambda body: (500, {"message": "<b>Broken</b>."})
    page.press("Try again")
    page.wait(lambda: page.texts(".outcome") == ["That did not work: <b>Broken</b>."])
    page.rest()
    script.refuse = lambda body: None
    page.press("Try again")
    page.wait(lambda: page.answers() == ["Yes, of course."])
    page.rest()
    assert page.texts(".versions") == ["4 / 4"]


def test_a_key_is_asked_for_and_forgotten_with_the_tab(open_page: Open, script: Script, run: Run) -> None:
    script.key = "open sesame"
    (run.path / "report.html").write_text("<h1>The report</h1>", encoding="utf-8")
    page = open_page(ready=False)
    page.allowed_messages = ["401 (Unauthorized)"]
    for wrong in ("wrong", "ключ"):
        page.type(wrong + Keys.ENTER, "#key-field")
        page.wait(lambda: page.one("#key-field").get_attribute("value") == "")
        page.wait(lambda: "That is not the key." in page.text("#key"))
    page.type("open sesame" + Keys.ENTER, "#key-field")
    page.wait(lambda: page.all(".welcome"))
    page.send("Hello")
    assert page.answers() == ["Yes, of course."]
    page.click("#open-run")
    page.browser.switch_to.frame(page.one("iframe"))
    page.wait(lambda: page.text("h1") == "The report")
    page.browser.switch_to.default_content()
    assert "open sesame" not in json.dumps(page.browser.execute_script("return {...localStorage}"))


def test_a_server_that_went_away_is_said(open_page: Open, script: Script) -> None:
    page = open_page()
    page.allowed_messages = ["Failed to load resource"]
    page.js("window.fetch = () => Promise.reject(new TypeError('gone'));")
    page.send("Hello")
    assert page.texts(".outcome") == ["The server does not answer."]
