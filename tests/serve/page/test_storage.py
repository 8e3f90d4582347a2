"""Conversations are kept in the browser, deleted for good, and survive a full storage and a closed tab."""

from __future__ import annotations

from selenium.webdriver.common.keys import Keys
from tests.serve.page.pages import Open
from tests.serve.page.standin import Script


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


def test_an_answer_whose_probabilities_made_room_keeps_its_length(open_page: Open, script: Script) -> None:
    script.finish = "length"
    page = open_page()
    page.send("Old")
    page.click("#new")
    page.wait(lambda: page.all(".welcome"))
    page.js(
        """const put = IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = () => {
          IDBObjectStore.prototype.put = put;
          throw new DOMException('', 'QuotaExceededError');
        };"""
    )
    page.send("New")
    page.browser.refresh()
    page.wait(lambda: page.texts(".list a") == ["New", "Old"])
    page.click(".list a", 1)
    page.wait(lambda: page.texts(".bubble") == ["Old"])
    assert page.texts(".outcome") == ["Cut off at the limit of 4 tokens."]
    assert page.text(".facts").startswith("4 tokens, ")
    page.press("Tokens and their probabilities")
    assert page.answers() == ["No probabilities were kept for this answer."]


def test_an_answer_that_a_closed_tab_left_was_stopped(open_page: Open, script: Script) -> None:
    script.say, script.pause = lambda body: ["word "] * 1000, 0.02
    page = open_page()
    page.type("Go on" + Keys.ENTER)
    page.wait(lambda: "word" in page.text(".answer .body"))
    page.browser.refresh()
    page.wait(lambda: page.texts(".bubble") == ["Go on"])
    assert page.texts(".outcome") == ["Stopped."]
