"""The page before heedful's own server: tiny random models, and the real default."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from tests.generate.conftest import Bytes
from tests.models import tiny_model
from tests.serve.page.pages import Open

import heedful
from heedful.generate.engine import Engine
from heedful.model.catalogue import CATALOGUE, wheel_file
from heedful.records import Sampling
from heedful.run import Run
from heedful.serve.app import create_app
from heedful.serve.feedback import Feedback
from heedful.serve.guard import AccessPolicy
from heedful.serve.limits import Limits
from heedful.serve.page_routes import page_routes

WHEEL = CATALOGUE["smollm2-135m"].wheel
SERVED = Sampling(max_tokens=100, repetition_penalty=1.3)
KEPT = """const { openStore } = await import("/page/store.js");
return (await (await openStore()).load())[0].exchanges.at(-1).lanes.map((lane) => lane.answers.at(-1));"""


def tiny(seed: int, positions: int = 1024) -> Engine:
    """An engine whose answers end by length alone."""
    return Engine(tiny_model("llama", seed=seed, max_position_embeddings=positions), Bytes(stop=()), "tiny")


def test_both_models_of_a_run_behind_a_key(open_page: Open, run: Run) -> None:
    models = {"mine": tiny(0), "mine-base": tiny(1)}
    app = create_app(models, AccessPolicy(key="secret"), defaults=SERVED, pages=[page_routes("mine", run, SERVED)])
    page = open_page(app, ready=False)
    page.allowed_messages = ["401 (Unauthorized)"]
    page.type("secret" + Keys.ENTER, "#key-field")
    page.wait(lambda: page.all(".welcome"))
    page.choose("both")
    page.send("Hello")
    answers = page.wait(lambda: page.js(KEPT))
    asked = """const messages = [{ role: "user", content: "Hello" }];
    const body = { model: args[0], messages, temperature: 0, repetition_penalty: 1.3, max_tokens: 100 };
    const headers = { Authorization: "Bearer secret", "Content-Type": "application/json" };
    const answer = await fetch("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body) });
    return (await answer.json()).choices[0].message.content;"""
    assert [answer["text"] for answer in answers] == [page.js(asked, name) for name in models]
    assert [answer["finish"] for answer in answers] == ["length"] * 2
    assert all(answer["tokens"] and answer["tokens"][0]["top"] for answer in answers)
    page.press("Good answer")
    page.wait(lambda: Feedback(run).counts()["up"] == 1)


def test_a_stopped_answer_stops_its_decoding(open_page: Open, run: Run) -> None:
    long = 8000  # tokens, so that even a slow browser stops it in time
    app = create_app(
        {"mine": tiny(0, 4 * long)}, limits=Limits(answer_tokens=long), pages=[page_routes("mine", run, SERVED)]
    )
    page = open_page(app)
    page.js(f"localStorage.setItem('heedful-page', JSON.stringify({{ maxTokens: {long} }}));")
    page.browser.refresh()
    page.wait(lambda: page.all(".welcome"))
    page.type("Go on" + Keys.ENTER)
    page.press("Stop")
    page.rest()
    page.wait(lambda: app.state.scheduler.running == 0 and app.state.scheduler.waiting == 0)
    assert page.texts(".outcome")[0] == "Stopped."


@pytest.mark.skipif(
    WHEEL is None or wheel_file(WHEEL) is None, reason="the model's wheel is not installed; `make test` installs it"
)
def test_the_real_default_model(open_page: Open, run: Run) -> None:
    app = create_app({"smollm2-135m": heedful.load("smollm2-135m")}, pages=[page_routes("smollm2-135m", run, SERVED)])
    page = open_page(app)
    page.send("What is the capital of France?")
    assert "Paris" in page.answers()[0]
    page.press("Tokens and their probabilities")
    assert any(token.accessible_name.startswith("Paris") for token in page.all(".token"))
    page.send("<img src=x onerror=alert(1)>")
    page.press("Try again", 1)
    page.rest()
    assert page.texts(".versions")[-1] == "2 / 2"
