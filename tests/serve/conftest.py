"""Servers over tiny random models: in this process for a client without a network, or on a socket of their own."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import pytest
import torch
from fastapi.testclient import TestClient
from tests.generate.conftest import Bytes
from tests.models import tiny_model
from tests.serve.terminal import Said

from heedful.generate.engine import Engine
from heedful.generate.row import Row
from heedful.generate.sampling import recorded
from heedful.records import Sampling
from heedful.serve.app import create_app
from heedful.serve.chat import chat
from heedful.serve.limits import Limits
from heedful.serve.server import Server, config_of, listen, url_of

CHAT = "/v1/chat/completions"
Make = Callable[..., Any]


class Saying(Engine):
    """An engine whose answers are these bytes, a token each, whatever its model thinks; each takes `seconds`."""

    def __init__(self, said: str | bytes, seconds: float = 0.0) -> None:
        super().__init__(tiny_model("llama"), Bytes(), "saying")
        self.script = [*(said.encode() if isinstance(said, str) else said), 258]  # the stop token comes last
        self.seconds = seconds
        self.steps = 0

    def choose(self, rows: Sequence[Row], logits: torch.Tensor) -> list[int]:
        time.sleep(self.seconds)
        self.steps += 1
        tokens = [self.script[min(row.answered, len(self.script) - 1)] for row in rows]
        for row, token, known in zip(rows, tokens, logits, strict=True):
            if row.sampling.logprobs is not None:
                row.choices.append(recorded(known, token, row.sampling.logprobs, row.text.length))
        return tokens


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine whose answers only end by length or by stop strings."""
    return Engine(tiny_model("llama"), Bytes(stop=()), "tiny")


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """A client of a server of two models."""
    with serving({"tiny": engine, "tiny-base": engine}) as client:
        yield client


def serving(models: dict[str, Engine], **options: Any) -> TestClient:
    return TestClient(create_app(models, **options), base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture
def live() -> Iterator[Make]:
    """Start servers on sockets; each call gives a client of a new one, with the app as `client.app`."""
    running: list[tuple[Server, threading.Thread, httpx2.Client]] = []

    def start(models: dict[str, Engine], **options: Any) -> httpx2.Client:
        app, ready = create_app(models, **options), threading.Event()
        listener = listen("127.0.0.1", 0)
        server = Server(config_of(app), app, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert ready.wait(30)
        client = httpx2.Client(base_url=url_of(listener), timeout=60, trust_env=False)
        client.app, client.server = app, server  # type: ignore[attr-defined]
        running.append((server, thread, client))
        return client

    yield start
    for server, thread, client in running:
        client.close()
        server.should_exit = server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()


def asking(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def events_of(text: str) -> list[Any]:
    """Read server-sent events: the JSON of each, and the closing word as it stands."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def said_in(events: Sequence[Any], place: int = 0) -> str:
    """Join the pieces of one choice of a streamed chat."""
    choices = [choice for event in events if event != "[DONE]" for choice in event["choices"]]
    return "".join(c["delta"].get("content") or "" for c in choices if c["index"] == place)


def limited(**limits: Any) -> Limits:
    return Limits(**limits)


def refused(reply: Any, status: int = 400) -> dict[str, Any]:
    """Check that a reply is an error in OpenAI's shape; give what it says."""
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and "Traceback" not in error["message"]
    return error


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    def run(
        engine: object,
        lines: str | io.TextIOWrapper,
        sampling: Sampling = Sampling(),  # noqa: B008
        system: str | None = None,
        other: object = None,
        named: set[str] | None = None,
    ) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines) if isinstance(lines, str) else lines)
        code: object = 0
        try:
            chat(engine, sampling, system, other, named)  # type: ignore[arg-type]
        except SystemExit as end:
            code = end.code
        return Said(*capsys.readouterr(), code)

    return run
