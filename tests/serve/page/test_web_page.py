"""The web page in a real browser: what somebody does there, and what then happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from tests.serve.page.pages import Page
from tests.serve.page.standin import Script

from heedful import data
from heedful.records import Sampling
from heedful.run import Run
from heedful.serve.feedback import Feedback, export_feedback
from heedful.settings import load_config

Open = Callable[..., Page]


def shown(script: Script, number: int = -1) -> list[tuple[str, str]]:
    """What a request showed to the model."""
    return [(message["role"], message["content"]) for message in script.asked[number]["messages"]]


def test_a_message_is_answered(open_page: Open, script: Script) -> None:
    page = open_page()
    page.type("Is it so?")
    page.type(Keys.SHIFT + Keys.ENTER)
    page.send("Really?")
    assert page.texts(".bubble") == ["Is it so?\nReally?"]
    assert page.answers() == ["Yes, of course."]
    page.send("And now?")
    assert shown(script) == [
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
    assert shown(script)[1] == ("assistant", kept + " ")


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
    assert ("assistant", "Answer 1.") in shown(script)


def test_a_changed_message_takes_the_place_of_all_that_followed(open_page: Open, script: Script) -> None:
    page = open_page()
    page.send("First")
    page.send("Second")
    page.press("Edit the message", 0)
    page.replace(".prompt .edit textarea", "Better")
    page.click(".prompt .edit .primary")
    page.wait(lambda: page.texts(".bubble") == ["Better"])
    page.rest()
    assert shown(script) == [("user", "Better")]
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
    assert [shown(script, -2)[1], shown(script, -1)[1]] == [
        ("assistant", f"{asked['model']} says so.") for asked in script.asked[-2:]
    ]


def test_feedback_becomes_training_data(open_page: Open, script: Script, run: Run) -> None:
    page = open_page()
    page.send("Is it so?")
    page.press("Good answer")
    page.wait(lambda: Feedback(run).counts()["up"] == 1)
    page.press("Bad answer")
    page.wait(lambda: Feedback(run).counts()["down"] == 1)
    assert page.one('[aria-label="Good answer"]').get_attribute("aria-pressed") == "false"
    page.press("Write a better answer")
    page.replace(".answer .edit textarea", "No, it is not.")
    page.click(".answer .edit .primary")
    page.wait(lambda: Feedback(run).counts() == {"up": 0, "down": 1, "better": 1})
    assert page.answers() == ["No, it is not."]
    assert "Your answer" in page.text(".outcome")
    page.send("Are you sure?")
    assert shown(script)[1] == ("assistant", "No, it is not.")
    rows = json.loads(export_feedback(run.path, None)[0].read_text("utf-8"))
    assert [message["content"] for message in rows[0]["messages"]] == ["Is it so?", "No, it is not."]
    page.click("#open-run")
    page.wait(lambda: "Rated bad: 1" in page.text("#run"))
    assert "heedful feedback export" in page.text("#run")


def test_feedback_that_is_not_kept_is_taken_back(open_page: Open, run: Run) -> None:
    page = open_page()
    page.allowed_messages = ["/feedback - Failed to load resource"]
    page.send("Is it so?")
    (run.path / "feedback.sqlite").mkdir()
    page.press("Good answer")
    page.wait(lambda: page.all(".toast"))
    assert page.one('[aria-label="Good answer"]').get_attribute("aria-pressed") == "false"


def test_conversations_are_kept_and_can_be_deleted(open_page: Open) -> None:
    page = open_page()
    page.send("First talk")
    page.click("#new")
    page.wait(lambda: page.all(".welcome"))
    page.send("Second talk")
    page.browser.refresh()
    page.wait(lambda: page.texts(".list a") == ["Second talk", "First talk"])
    assert page.texts(".bubble") == ["Second talk"]
    assert page.answers() == ["Yes, of course."]
    page.click(".list a", 1)
    page.wait(lambda: page.texts(".bubble") == ["First talk"])
    page.browser.back()
    page.wait(lambda: page.texts(".bubble") == ["Second talk"])
    page.browser.execute_script("arguments[0].focus()", page.one(".list a"))
    page.press("Delete Second talk")
    page.wait(lambda: page.texts(".list a") == ["First talk"] and page.all(".welcome"))
    page.click(".toast button")
    page.wait(lambda: page.texts(".list a") == ["Second talk", "First talk"])


def test_what_is_deleted_while_it_is_answered_stays_away(open_page: Open, script: Script) -> None:
    script.say, script.pause = lambda body: ["word "] * 1000, 0.02
    page = open_page()
    page.type("Go on" + Keys.ENTER)
    page.wait(lambda: "word" in page.text(".answer .body"))
    page.click("#new")  # it is answered out of sight now
    page.wait(lambda: page.all(".welcome"))
    page.browser.execute_script("arguments[0].focus()", page.one(".list a"))
    page.press("Delete Go on")
    script.say, script.pause = lambda body: ["Fine."], 0
    page.send("Next")
    assert page.texts(".list a") == ["Next"]
    assert script.left == 1  # the stream's end was never reached: the server was told
    page.click(".toast button")
    page.wait(lambda: page.texts(".list a") == ["Go on", "Next"])


def test_a_rating_belongs_to_its_conversation(open_page: Open) -> None:
    page = open_page()
    page.send("First talk")
    page.js(
        """const real = window.fetch;
        window.fetch = async (...asked) => {
          if (asked[0] === "/feedback") await new Promise((go) => { window.go = go; });
          return real(...asked);
        };"""
    )
    page.press("Good answer")
    page.click("#new")
    page.wait(lambda: page.all(".welcome"))
    page.browser.execute_script("window.go()")
    page.send("Second talk")
    page.browser.refresh()
    page.wait(lambda: len(page.all(".list a")) == 2)
    page.click(".list a", page.texts(".list a").index("First talk"))
    page.wait(lambda: page.texts(".bubble") == ["First talk"])
    assert page.one('[aria-label="Good answer"]').get_attribute("aria-pressed") == "true"


def test_feedback_holds_what_the_model_saw(open_page: Open, script: Script, run: Run) -> None:
    script.say = lambda body: [f"Answer {len(script.asked)}."]
    page = open_page()
    page.send("First")
    page.send("Second")
    page.press("Try again", 0)
    page.wait(lambda: page.answers() == ["Answer 3.", "Answer 2."])
    page.rest()
    page.click("#open-settings")
    page.type("Be brief.", "#system")
    page.press("Close")
    page.press("Good answer", 1)
    (kept,) = page.wait(Feedback(run).opinions)
    assert [(turn.role, turn.content) for turn in kept.messages] == shown(script, 1)
    assert (kept.answer, kept.finish) == ("Answer 2.", "stop")


def test_only_whole_answers_are_learned(open_page: Open) -> None:
    weights = open_page().js(
        """const { newConversation, newExchange, addAnswer, toRow } = await import("/page/conversation.js");
        const said = (changes) => {
          const exchange = newExchange("Hi", ["m"]);
          Object.assign(addAnswer(exchange.lanes[0], {}), { text: "Ho" }, changes);
          return exchange;
        };
        const talk = (...kinds) => ({ ...newConversation(""), exchanges: kinds.map(said) });
        const cut = [{ finish: null }, { finish: "stopped" }, { finish: "length", rating: "up" }, { finish: "error" }];
        const row = toRow(talk(...cut, { finish: "stop" }, { finish: "length", better: "Ha" }));
        const answers = row.messages.filter(({ role }) => role === "assistant");
        return [toRow(talk(...cut)), answers.map(({ weight }) => weight ?? 1)];"""
    )
    assert weights == [None, [0, 0, 0, 0, 1, 1]]


def test_the_export_is_a_file_that_train_reads(open_page: Open, script: Script) -> None:
    script.say = lambda body: ["So ", "it is 世界."]
    page = open_page()
    page.click("#open-settings")
    page.type("Be brief.", "#system")
    page.press("Close")
    page.send("Export me, please")
    page.send("Bad one")
    page.press("Bad answer", 1)
    page.wait(lambda: page.all('[aria-pressed="true"]'))
    page.click("#export")
    file = page.downloaded("heedful-Export-me-please*.json")
    (row,) = json.loads(file.read_text("utf-8"))
    assert [(message["role"], message["content"]) for message in row["messages"]] == [
        ("system", "Be brief."),
        ("user", "Export me, please"),
        ("assistant", "So it is 世界."),
        ("user", "Bad one"),
        ("assistant", "So it is 世界."),
    ]
    assert [message.get("weight") for message in row["messages"]] == [None, None, None, None, 0]
    settings = {"data.path": str(file), "data.test_share": 0, "data.validation_share": 0}
    splits, _ = data.load_splits(load_config(None, settings).data)
    assert [message.supervised for message in splits.train[0].messages][-1] is False


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
    assert [content for _, content in shown(script)] == ["Two", "Yes, of course.", "Three"]
    assert "oldest turns were left out" in page.texts(".outcome")[-1]
    refusals = len(script.asked)
    page.send("Four")  # the turn that was left out is not tried again
    assert [content for _, content in shown(script)] == ["Three", "Yes, of course.", "Four"]
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
        assert shown(script) == [("user", text)]


def test_refusals_are_sentences_and_can_be_tried_again(open_page: Open, script: Script) -> None:
    script.refuse = lambda body: (429, {"message": "Busy."})
    page = open_page()
    page.allowed_messages = ["429 (Too Many", "500 (Internal"]
    page.send("Hello")
    assert page.texts(".outcome") == ["The server is busy. Try again in 3 s."]
    script.refuse = lambda body: (500, {"message": "<b>Broken</b>."})
    page.press("Try again")
    page.wait(lambda: page.texts(".outcome") == ["That did not work: <b>Broken</b>."])
    page.rest()
    script.refuse = lambda body: None
    page.press("Try again")
    page.wait(lambda: page.answers() == ["Yes, of course."])
    page.rest()
    assert page.texts(".versions") == ["3 / 3"]


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


def test_a_full_storage_is_said_and_the_talk_goes_on(open_page: Open) -> None:
    page = open_page()
    page.js("IDBObjectStore.prototype.put = () => { throw new DOMException('', 'QuotaExceededError'); };")
    page.send("Fill it")
    page.wait(lambda: any("storage is full" in text for text in page.texts(".toast")))
    page.send("Still there?")
    assert page.answers() == ["Yes, of course."] * 2


def test_old_probabilities_make_room_before_anything_is_lost(open_page: Open) -> None:
    kept = open_page().js(
        """const { openStore } = await import("/page/store.js");
        const { newConversation, newExchange, addAnswer } = await import("/page/conversation.js");
        const store = await openStore();
        const filled = () => {
          const conversation = newConversation("");
          const exchange = newExchange("Hi", ["m"]);
          addAnswer(exchange.lanes[0], {}).tokens = [{ text: "a", logprob: 0, top: [] }];
          conversation.exchanges.push(exchange);
          return conversation;
        };
        const [old, fresh] = [filled(), filled()];
        await store.put(old);
        const write = store.write.bind(store);
        const full = [new DOMException("", "QuotaExceededError")];
        store.write = (...all) => full.length ? Promise.reject(full.pop()) : write(...all);
        await store.put(fresh);
        const again = await openStore();
        await again.load();
        return [old, fresh].map(({ id }) => again.kept.get(id).exchanges[0].lanes[0].answers[0].tokens.length);"""
    )
    assert kept == [0, 1]


def test_an_answer_that_a_closed_tab_left_was_stopped(open_page: Open, script: Script) -> None:
    script.say, script.pause = lambda body: ["word "] * 1000, 0.02
    page = open_page()
    page.type("Go on" + Keys.ENTER)
    page.wait(lambda: "word" in page.text(".answer .body"))
    page.browser.refresh()
    page.wait(lambda: page.texts(".bubble") == ["Go on"])
    assert page.texts(".outcome") == ["Stopped."]


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


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_silent(open_page: Open, width: int, tmp_path: Path) -> None:
    page = open_page(width=width)
    page.send("Hello")
    page.browser.refresh()
    page.wait(lambda: page.all(".answer"))
