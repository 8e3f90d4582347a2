"""What is rated and written on the page reaches the run as feedback, and the export as rows to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.serve.page.pages import Open, Page
from tests.serve.page.standin import Script, stand_in

from heedful import data
from heedful.run import Run
from heedful.serve.feedback import Feedback, export_feedback
from heedful.settings import load_config


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
    assert script.shown()[1] == ("assistant", "No, it is not.")
    rows = json.loads(export_feedback(run.path, None)[0].read_text("utf-8"))
    assert [message["content"] for message in rows[0]["messages"]] == ["Is it so?", "No, it is not."]
    page.click("#open-run")
    page.wait(lambda: "Rated bad: 1" in page.text("#run"))
    assert f"heedful feedback export '{run.path}'" in page.text("#run")  # its name has a space


@pytest.mark.parametrize(
    ("language", "button", "note", "told"),
    [
        (
            "en",
            "Write a better answer",
            "in this browser, but for those you rate or correct",
            "on the server, with the",
        ),
        ("zh-CN", "写一个更好的回答", "打分或改写过的除外", "已连同对话保存到服务器"),
    ],
)
def test_what_leaves_the_browser_is_said(
    open_page: Open, run: Run, language: str, button: str, note: str, told: str
) -> None:
    page = open_page(language=language)
    assert note in page.text(".note")
    page.send("A secret?")
    page.press(button)
    page.replace(".answer .edit textarea", "None of yours.")
    page.click(".answer .edit .primary")
    page.wait(lambda: any(told in text for text in page.texts(".toast")))
    assert [turn.content for turn in Feedback(run).opinions()[0].messages] == ["A secret?"]


def test_what_is_said_of_an_answer_is_of_the_one_that_is_shown(open_page: Open, script: Script) -> None:
    """A model's ending, tokens and rating are not those of the text that a person wrote in its place."""
    script.finish = "length"
    page = open_page()
    page.send("Is it so?")
    page.press("Bad answer")
    own = (["Cut off at the limit of 4 tokens."], page.one(".facts").text, 1)

    def beside() -> tuple[list[str], str, int]:
        notes = page.texts(".outcome > :not(.tag)")
        return (
            notes,
            "".join(page.texts(".facts")),
            len(page.all('.answer [aria-label="Bad answer"][aria-pressed=true]')),
        )

    page.wait(lambda: beside() == own)
    page.press("Write a better answer")
    page.replace(".answer .edit textarea", "No, it is not.")
    page.click(".answer .edit .primary")
    page.wait(lambda: page.texts(".tag") == ["Your answer"])
    assert page.answers() == ["No, it is not."] and beside() == ([], "", 0)
    page.press("Tokens and their probabilities")
    assert page.texts(".token") == ["Yes", ", ", "of course", "."]
    assert page.texts(".tag") == ["The model's own answer"] and beside() == own
    page.press("Tokens and their probabilities")
    assert page.texts(".tag") == ["Your answer"] and page.answers() == ["No, it is not."]


# Of how many answers the browser has written down where what was said of them is kept.
KEPT = """const ask = (request) => new Promise((done) => (request.onsuccess = () => done(request.result)));
const database = await ask(indexedDB.open("heedful"));
const kept = await ask(database.transaction("conversations").objectStore("conversations").getAll());
database.close();
return JSON.stringify(kept).split('"beside":{').length - 1"""


def count(page: Page, label: str) -> int:
    """Count the buttons of this name, shown or not."""
    found: int = page.browser.execute_script(f"return document.querySelectorAll('[aria-label=\"{label}\"]').length")
    return found


class Servers:
    """Two servers of one address, of which the first answers until they change places."""

    def __init__(self, script: Script, run: Run, other: Run) -> None:
        self.other = other
        self.apps = [stand_in(script, run), stand_in(script, other)]

    def swap(self) -> None:
        self.apps.reverse()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.apps[0](scope, receive, send)


@pytest.fixture
def servers(script: Script, run: Run, tmp_path: Path) -> Servers:
    other = Run(tmp_path / "other")
    other.path.mkdir()
    return Servers(script, run, other)


def test_what_was_rated_beside_another_run_is_changed_there_alone(open_page: Open, servers: Servers, run: Run) -> None:
    """Else this run would hold what was said of the other's answer, and the other what was taken back."""
    page = open_page(servers)
    page.send("Is it so?")
    page.press("Good answer")
    page.wait(lambda: Feedback(run).counts()["up"] == 1)
    page.wait(lambda: page.js(KEPT) == 1)
    servers.swap()
    page.browser.refresh()
    page.wait(lambda: f"You rated this while '{run.path}' was served." in page.text(".outcome"))
    assert count(page, "Good answer") == count(page, "Write a better answer") == 0
    page.send("And this?")
    page.press("Bad answer")
    page.wait(lambda: Feedback(servers.other).counts()["down"] == 1)
    page.wait(lambda: page.js(KEPT) == 2)
    servers.swap()
    page.browser.refresh()
    page.wait(lambda: count(page, "Good answer") == 1)
    page.press("Good answer")
    page.wait(lambda: Feedback(run).counts()["up"] == 0)


def test_a_page_that_outlives_its_server_files_nothing_under_the_next_run(
    open_page: Open, servers: Servers, run: Run
) -> None:
    page = open_page(servers)
    page.allowed_messages = ["/feedback"]
    page.send("Is it so?")
    servers.swap()
    page.press("Good answer")
    page.wait(lambda: page.all(".toast"))
    assert page.one('[aria-label="Good answer"]').get_attribute("aria-pressed") == "false"
    assert Feedback(run).counts() == Feedback(servers.other).counts() == {"up": 0, "down": 0, "better": 0}
    page.press("Good answer")  # by now the page knows whom it speaks to
    page.wait(lambda: Feedback(servers.other).counts()["up"] == 1)


def test_feedback_that_is_not_kept_is_taken_back(open_page: Open, run: Run) -> None:
    page = open_page()
    page.allowed_messages = ["/feedback"]
    page.send("Is it so?")
    (run.path / "feedback.sqlite").mkdir()
    page.press("Good answer")
    page.wait(lambda: page.all(".toast"))
    assert page.one('[aria-label="Good answer"]').get_attribute("aria-pressed") == "false"


def test_a_rating_belongs_to_its_conversation(open_page: Open) -> None:
    page = open_page()
    page.send("First talk")
    page.js(
        """const real = window.fetch;
        window.fetch = async (...asked) => {
          if (asked[0].startsWith("/feedback")) await new Promise((go) => { window.go = go; });
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
    assert [(turn.role, turn.content) for turn in kept.messages] == script.shown(1)
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


def test_an_export_without_a_lesson_says_why_there_is_none(open_page: Open) -> None:
    page = open_page()
    page.send("Is it so?")
    page.press("Bad answer")
    page.wait(lambda: page.all('[aria-pressed="true"]'))
    page.click("#export")
    page.wait(lambda: any("rated bad are no lesson" in text for text in page.texts(".toast")))


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
