"""A server that looks like heedful's to the page, and says what a test tells it to, as slowly as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from heedful.records import Sampling
from heedful.run import Run
from heedful.serve.page_routes import page_routes


@dataclass
class Script:
    """What the server answers: `say` gives the pieces for a request's body; a refusal is a status and an error."""

    say: Callable[[dict[str, Any]], list[str]] = lambda body: ["Yes", ", ", "of course", "."]
    pause: float = 0.0  # seconds before each piece
    finish: str = "stop"
    models: tuple[str, ...] = ("tiny", "tiny-base")
    sampling: Sampling = field(default_factory=Sampling)  # where a request says nothing
    positions: int | None = None  # of the models, if the server tells it
    key: str | None = None
    refuse: Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None] = lambda body: None
    asked: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0  # streams that the client did not read to their end

    def shown(self, number: int = -1) -> list[tuple[str, str]]:
        """Give what a request showed to the model."""
        return [(turn["role"], turn["content"]) for turn in self.asked[number]["messages"]]


def stand_in(script: Script, run: Run | None) -> FastAPI:
    """Build the app."""
    app = FastAPI()

    @app.middleware("http")
    async def check_key(request: Request, go_on: Any) -> Any:
        given = request.headers.get("authorization")
        is_open = request.url.path == "/" or request.url.path.startswith("/page/")
        if script.key and given != f"Bearer {script.key}" and not is_open:
            return JSONResponse({"error": {"message": "No key.", "code": "invalid_api_key"}}, 401)
        return await go_on(request)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        told = {"max_model_len": script.positions} if script.positions else {}
        return {"object": "list", "data": [{"id": name, "object": "model", **told} for name in script.models]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        body = await request.json()
        script.asked.append(body)
        if refusal := script.refuse(body):
            return JSONResponse(
                {"error": refusal[1]}, refusal[0], headers={"Retry-After": "3"} if refusal[0] in (429, 503) else {}
            )
        return StreamingResponse(_stream(script, body), media_type="text/event-stream")

    app.include_router(page_routes("tiny", run, script.sampling))
    return app


async def _stream(script: Script, body: dict[str, Any]) -> AsyncIterator[str]:
    script.left += 1
    yield _event({"role": "assistant", "content": ""}, None, None)
    for number, piece in enumerate(script.say(body)):
        await asyncio.sleep(script.pause)
        yield _event({"content": piece}, [_logprob(piece, number)], None)
    yield _event({}, None, script.finish)
    yield "data: [DONE]\n\n"
    script.left -= 1


def _event(delta: dict[str, str], logprobs: list[Any] | None, finish: str | None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs and {"content": logprobs}, "finish_reason": finish}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


def _logprob(piece: str, number: int) -> dict[str, Any]:
    """Make up a probability that differs from token to token, and two alternatives."""
    logprob = (-0.02, -0.4, -1.6, -0.1, -0.9)[number % 5]
    top = [(piece, logprob), (" other", logprob - 0.8), ("\n", -4.5)]
    entries = [{"token": text, "logprob": value, "bytes": list(text.encode())} for text, value in top]
    return {**entries[0], "top_logprobs": entries}


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Run an ASGI app in a thread; give its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
