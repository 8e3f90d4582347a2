"""A job seen from the event loop: its events in order, until its client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request

from heedful.generate.row import Event
from heedful.records import Choice, Completion
from heedful.serve.counters import Counters
from heedful.serve.problems import Problem
from heedful.serve.requests import Generation
from heedful.serve.scheduler import Job, Scheduler

Result = TypeVar("Result")


class RunningGeneration:
    """A generation in progress, from `begin` to `end`; `end` stops the decoding if answers are unfinished."""

    def __init__(self, scheduler: Scheduler, generation: Generation, counters: Counters) -> None:
        self.generation = generation
        self.answers: dict[int, Completion] = {}  # whole ones, by place
        self._counters = counters
        self._scheduler = scheduler
        self._arrived: asyncio.Queue[tuple[int, Event | Problem]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        deadline = self._started + scheduler.limits.answer_seconds
        self._job = Job(generation.model, generation.rows, self._tell, deadline)

    def begin(self) -> None:
        """Queue up; raise a Problem if there is no room."""
        self._scheduler.submit(self._job)

    def end(self) -> None:
        if len(self.answers) < len(self.generation.rows) and not self._job.cancelled:
            self._job.cancelled = True
            self._counters.abandoned += 1

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Return the events with their places, until every answer is whole; raise the Problem that ends them."""
        first = True
        while len(self.answers) < len(self.generation.rows):
            place, event = await self._arrived.get()
            if isinstance(event, Problem):
                raise event
            if first:
                self._counters.first_token.add(time.monotonic() - self._started)
                first = False
            if event.completion:
                self.answers[place] = event.completion
                self._count(event.completion)
            yield place, event

    async def all(self) -> list[tuple[Completion, list[Choice]]]:
        """Wait for the whole answers; return each with its recorded choices."""
        choices: list[list[Choice]] = [[] for _ in self.generation.rows]
        async for place, event in self.events():
            choices[place] += event.choices
        return [(self.answers[place], noted) for place, noted in enumerate(choices)]

    def _tell(self, place: int, event: Event | Problem) -> None:
        """Take an event from the models' thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, (place, event))

    def _count(self, answer: Completion) -> None:
        self._counters.add_answer(
            self.generation.model, answer.prompt_tokens, len(answer.token_ids), answer.finish_reason
        )
        self._counters.answer.add(time.monotonic() - self._started)


async def unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Do the work, or give None as soon as the client has left."""
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        for task in (doing, leaving):
            task.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
