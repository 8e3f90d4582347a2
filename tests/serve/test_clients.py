"""Real clients: openai-python, LangChain and curl, and the requests that Open WebUI sends."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.serve.conftest import CHAT, Make, Saying, events_of, said_in

from heedful.generate.engine import Engine
from heedful.serve.guard import AccessPolicy
from heedful.serve.limits import Limits

HELLO: Any = [{"role": "user", "content": "Hello"}]
KEY = "k-1"

# As they come over the wire, with what matters of their headers left out.
WEBUI_CHAT = {
    "stream": True,
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}, *HELLO],
    "temperature": 0.7,
    "max_tokens": 20,
    "stream_options": {"include_usage": True},
}
WEBUI_TITLE = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "### Task:\nGenerate a concise, 3-5 word title.\n<chat_history>\n</chat_history>"}
    ],
    "stream": False,
    "max_completion_tokens": 30,
}


@pytest.fixture
def opened(live: Make) -> openai.OpenAI:
    client = live({"m": Saying("Grüße, 世界!")}, policy=AccessPolicy(KEY))
    return openai.OpenAI(base_url=f"{str(client.base_url).rstrip('/')}/v1", api_key=KEY, max_retries=0)


def test_openai_python(opened: openai.OpenAI) -> None:
    reply = opened.chat.completions.create(model="m", messages=HELLO, user="u", seed=1)
    assert reply.choices[0].message.content == "Grüße, 世界!"
    assert reply.usage and reply.usage.completion_tokens == len("Grüße, 世界!".encode())
    stream = opened.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}, extra_body={"top_k": 5}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Grüße, 世界!"
    assert chunks[-1].usage and chunks[-1].usage.total_tokens > 0
    noted = opened.chat.completions.create(model="m", messages=HELLO, logprobs=True, top_logprobs=2)
    assert noted.choices[0].logprobs and noted.choices[0].logprobs.content
    assert opened.completions.create(model="m", prompt="x", logprobs=1).choices[0].text == "Grüße, 世界!"
    assert [model.id for model in opened.models.list()] == ["m"]
    assert opened.models.retrieve("m").object == "model"


def test_openai_python_knows_the_errors(opened: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        opened.chat.completions.create(model="m", messages=HELLO, temperature=9)
    assert (wrong.value.param, wrong.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.NotFoundError):
        opened.chat.completions.create(model="x", messages=HELLO)
    with pytest.raises(openai.AuthenticationError):
        opened.with_options(api_key="no").models.list()
    with pytest.raises(openai.BadRequestError, match="context is 128 tokens"):
        opened.chat.completions.create(model="m", messages=HELLO, max_tokens=1000)


def test_openai_python_hears_of_an_error_in_a_stream(live: Make) -> None:
    client = live({"m": Saying("x" * 100, 0.05)}, limits=Limits(answer_seconds=0.4))
    opened = openai.OpenAI(base_url=f"{str(client.base_url).rstrip('/')}/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.APIError, match="took longer"):
        list(opened.chat.completions.create(model="m", messages=HELLO, stream=True))


def test_langchain(live: Make) -> None:
    client = live({"m": Saying("Grüße, 世界!")}, policy=AccessPolicy(KEY))
    address = f"{str(client.base_url).rstrip('/')}/v1"
    chat = ChatOpenAI(base_url=address, api_key=SecretStr(KEY), model="m", temperature=0.7, max_retries=0)
    turns = [("system", "Be brief."), ("human", [{"type": "text", "text": "Hi"}])]
    reply = chat.invoke(turns)
    assert reply.content == "Grüße, 世界!"
    assert reply.response_metadata["finish_reason"] == "stop"
    pieces = list(chat.stream(turns, stream_usage=True))
    assert "".join(str(piece.content) for piece in pieces) == "Grüße, 世界!"
    assert any(piece.usage_metadata and piece.usage_metadata["output_tokens"] for piece in pieces)


@pytest.mark.parametrize("body", [WEBUI_CHAT, WEBUI_TITLE], ids=["chat", "title"])
def test_recorded_requests_are_answered(live: Make, body: dict[str, Any]) -> None:
    client = live({"m": Saying("Good")})
    reply = client.post(CHAT, json=body, headers={"Authorization": "Bearer none", "X-Stainless-Lang": "python"})
    assert reply.status_code == 200
    if body["stream"]:
        events = events_of(reply.text)
        assert said_in(events) == "Good" and events[-2]["usage"]["completion_tokens"] == 4
    else:
        assert reply.json()["choices"][0]["message"]["content"] == "Good"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl(live: Make, engine: Engine) -> None:
    client = live({"m": Saying("naïve 世"), "other": engine})
    command = ["curl", "-sSN", f"{str(client.base_url).rstrip('/')}{CHAT}", "-H", "Content-Type: application/json"]
    streamed = subprocess.run([*command, "-d", json.dumps({"messages": HELLO, "stream": True})], capture_output=True)
    assert said_in(events_of(streamed.stdout.decode())) == "naïve 世"
    late = subprocess.run(
        [*command, "-H", "Expect: 100-continue", "-d", json.dumps({"messages": HELLO})], capture_output=True
    )
    assert json.loads(late.stdout)["choices"][0]["message"]["content"] == "naïve 世"
