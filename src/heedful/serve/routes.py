"""The routes of OpenAI's API, and what belongs to running a server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from heedful.generate.text import Spelling
from heedful.serve import replies
from heedful.serve.counters import Counters
from heedful.serve.problems import Problem, broken, leave_trace
from heedful.serve.replies import Chat, Envelope, Shape, Text
from heedful.serve.requests import RequestReader
from heedful.serve.running import RunningGeneration, unless_left
from heedful.serve.scheduler import Scheduler
from heedful.serve.schema import ChatRequest, CompletionRequest, TokenizeRequest

STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
    for status, text in {
        400: "The request is wrong; `param` names the field.",
        401: "The key is missing or wrong.",
        403: "The host or the origin is not allowed.",
        404: "There is no such model or route.",
        408: "It took too long.",
        413: "The body is too large.",
        422: "Not used.",
        429: "Too many answers are waiting; try again after `Retry-After` seconds.",
        500: "The model failed.",
        503: "The server is shutting down.",
    }.items()
}


def routes(reader: RequestReader, scheduler: Scheduler, counters: Counters) -> APIRouter:
    """Bind the routes to some models."""
    router = APIRouter(responses=PROBLEMS)
    _add_answers(router, reader, scheduler, counters)
    _add_models(router, reader)
    _add_state(router, scheduler, counters)
    return router


def _add_answers(router: APIRouter, reader: RequestReader, scheduler: Scheduler, counters: Counters) -> None:
    spellings = {name: Spelling(engine.prompter.tokenizer) for name, engine in reader.models.items()}

    @router.post("/v1/chat/completions")
    async def chat(request: Request, body: ChatRequest) -> Response:
        """Answer a conversation."""
        generation = await reader.chat(body)
        shape = Chat(spellings[generation.model], bool(body.logprobs))
        return await respond(request, RunningGeneration(scheduler, generation, counters), shape, body.stream)

    @router.post("/v1/completions")
    async def completions(request: Request, body: CompletionRequest) -> Response:
        """Continue a text as it stands, without a template."""
        generation = await reader.completion(body)
        shape = Text(spellings[generation.model], body.logprobs is not None)
        return await respond(request, RunningGeneration(scheduler, generation, counters), shape, body.stream)

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """Return the tokens of a text, or of messages as the model would see them."""
        engine, ids = await reader.tokens(body)
        names = [engine.prompter.tokenizer.convert_ids_to_tokens(token) for token in ids]
        return {"count": len(ids), "max_model_len": engine.positions, "tokens": ids, "token_strs": names}


def _add_models(router: APIRouter, reader: RequestReader) -> None:
    started = int(time.time())

    def described(name: str) -> dict[str, Any]:
        positions = reader.models[name].positions
        return {"id": name, "object": "model", "created": started, "owned_by": "heedful", "max_model_len": positions}

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": [described(name) for name in reader.models]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """Describe a model."""
        return described(reader.find(name)[0])


def _add_state(router: APIRouter, scheduler: Scheduler, counters: Counters) -> None:
    @router.get("/health")
    @router.get("/healthz", include_in_schema=False)
    async def health() -> Response:
        """Say whether requests are answered."""
        status = "stopping" if scheduler.draining else "ok" if scheduler.alive else "failed"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        """Tell what was done so far, in Prometheus' text format."""
        return counters.text(scheduler)


class Stream(StreamingResponse):
    """Server-sent events; when the client has them all, or has left, the generation ends."""

    def __init__(self, running: RunningGeneration, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=STREAM)
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.end()


async def respond(request: Request, running: RunningGeneration, shape: Shape, stream: bool | None) -> Response:
    """Answer whole, or as a stream."""
    generation = running.generation
    envelope = Envelope(shape, generation.model, generation.usage)
    running.begin()
    if stream:
        return Stream(running, chunks(running, shape, envelope))
    try:
        answers = await unless_left(request, running.all())
    finally:
        running.end()
    if answers is None:
        return Response(status_code=499)  # nobody reads it
    parts = [shape.choice(place, *found) for place, found in enumerate(answers)]
    counted = replies.usage(generation.prompt_tokens, [found for found, _ in answers])
    return JSONResponse(envelope.whole(parts, counted))


async def chunks(running: RunningGeneration, shape: Shape, envelope: Envelope) -> AsyncIterator[bytes]:
    """Write an answer as server-sent events; what goes wrong on the way is an event too."""
    generation = running.generation
    try:
        for place in range(len(generation.rows)):
            if (opening := shape.opening(place)) is not None:
                yield envelope.chunk([opening])
        async for place, event in running.events():
            if event.text or event.choices:
                yield envelope.chunk([shape.part(place, event.text, event.choices)])
            if event.completion:
                yield envelope.chunk([shape.closing(place, event.completion.finish_reason)])
        if generation.usage:
            answers = list(running.answers.values())
            yield envelope.chunk([], replies.usage(generation.prompt_tokens, answers))
        yield replies.DONE
    except Problem as problem:
        yield replies.sse(problem.body())
    except Exception as error:
        leave_trace(error)
        yield replies.sse(broken(error).body())
