"""One thread runs the models, at best the process's first; requests join and leave their running batches.

A job is one request: the rows of its answers, and a function that takes their events, called from the thread. A row's
answer is the same in any company (see `generate`), so nothing here decides what is said, only when.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from heedful.generate.engine import Engine, RunningBatch
from heedful.generate.prefix_cache import PrefixCache
from heedful.generate.row import Event, Row
from heedful.serve.limits import Limits
from heedful.serve.problems import Problem, broken, full, late, leave_trace, leaving

JOINING_TOKENS = 2048  # most tokens of prompts that join between two steps, so that streams do not stand still
SWEEP_SECONDS = 0.25  # between looks for jobs that are late


@dataclass(eq=False)
class Job:
    """A request's rows; `tell` takes their events, whose `row` is the place among them, or the Problem that ends it."""

    model: str
    rows: Sequence[Row]
    tell: Callable[[int, Event | Problem], None]
    deadline: float  # of time.monotonic()
    cancelled: bool = False  # nobody waits for it any more: its rows leave before their next token


class Lane:
    """One model's queue: the rows that wait for a place, and those in the running batch."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.waiting: deque[tuple[Job, int]] = deque()  # a job, and the place of a row in it
        self.running: dict[int, tuple[Job, int]] = {}  # by the row's index in the batch
        self._limits = limits
        self._prefix_cache = PrefixCache()
        self._batch = RunningBatch(engine, self._prefix_cache)
        self._joined = 0
        self._owed = False  # running rows waited while others joined

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def turn(self) -> None:
        """Prefill some of the waiting rows, or decode one token for all running rows.

        After a prefill that made running rows wait, the next turn is always a decode step.
        """
        standing = bool(self._batch.rows)
        try:
            joining = [] if standing and self._owed else self._joining()
            events = self._batch.join(joining) if joining else self._batch.step()
        except Exception as error:  # whatever a model raises must not end the thread
            leave_trace(error)
            self.end({job for job, _ in self.running.values()}, broken(error))
            self._batch = RunningBatch(self.engine, self._prefix_cache)
            return
        self._owed = standing and bool(joining)
        for event in events:
            job, place = self.running[event.row]
            if event.completion:
                del self.running[event.row]
            job.tell(place, event)

    def _joining(self) -> list[Row]:
        """Move waiting rows to the running ones: as many as there is room for, at most JOINING_TOKENS at a time."""
        waiting = [job.rows[place] for job, place in self.waiting]
        count = self._batch.room(waiting, self._limits.running, at_once=True)
        tokens = 0
        rows: list[Row] = []
        for row in waiting[:count]:
            tokens += row.prompt_tokens
            if rows and tokens > JOINING_TOKENS:
                break
            self._joined += 1
            row.index = self._joined
            self.running[row.index] = self.waiting.popleft()
            rows.append(row)
        return rows

    def end(self, jobs: Collection[Job], problem: Problem | None = None) -> None:
        """Forget jobs, and tell them why."""
        gone = {index for index, (job, _) in self.running.items() if job in jobs}
        self._batch.drop([row for row in self._batch.rows if row.index in gone])
        self.waiting = deque((job, place) for job, place in self.waiting if job not in jobs)
        self.running = {index: found for index, found in self.running.items() if index not in gone}
        if problem is not None:
            for job in jobs:
                job.tell(0, problem)

    def jobs(self) -> set[Job]:
        return {job for job, _ in (*self.waiting, *self.running.values())}


class Scheduler:
    """Runs the models in one thread. Other threads call `submit`; a job's `tell` is called from the models' thread."""

    def __init__(self, engines: Mapping[str, Engine], limits: Limits) -> None:
        self.limits = limits
        self.lanes = {name: Lane(engine, limits) for name, engine in engines.items()}
        self._new: list[Job] = []
        self._wake = threading.Condition()
        self._drained_by: float | None = None  # no job is taken any more, and none goes on after this time
        self._swept = 0.0
        self._taking = False  # `run` is under way
        self._done = threading.Event()

    @property
    def waiting(self) -> int:
        """Rows that wait for a place."""
        return sum(len(job.rows) for job in self._new) + sum(len(lane.waiting) for lane in self.lanes.values())

    @property
    def running(self) -> int:
        """Rows that are being answered."""
        return sum(len(lane.running) for lane in self.lanes.values())

    @property
    def draining(self) -> bool:
        return self._drained_by is not None

    @property
    def alive(self) -> bool:
        return self._taking and not self._done.is_set()

    def start(self) -> None:
        """Run in a thread of its own."""
        self._taking, self._drained_by = True, None
        self._done.clear()
        threading.Thread(target=self.run, name="models", daemon=True).start()

    def expect(self) -> None:
        """Say that `run` is about to be called."""
        self._taking = True

    def run(self) -> None:
        """Run the models in this thread until they are drained.

        The thread that loaded them is the fastest: OpenMP keeps a team of workers for each thread that computes, and
        where there are more of them than cores they sleep between two operations instead of waiting awake.
        """
        self._taking = True
        try:
            while self._gather():
                for lane in self.lanes.values():
                    if lane.busy:
                        lane.turn()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Tell those who still wait that the server ends; there are none unless `run` broke."""
        with self._wake:
            self._done.set()
            for job in {*self._new, *(job for lane in self.lanes.values() for job in lane.jobs())}:
                job.tell(0, leaving())

    def submit(self, job: Job) -> None:
        """Take a job; raise a Problem if the queue is full or the server is shutting down."""
        with self._wake:
            if self.draining or self._done.is_set():
                raise leaving()
            if (waiting := self.waiting) + len(job.rows) > self.limits.waiting:
                raise full(waiting)
            self._new.append(job)
            self._wake.notify()

    def drain(self) -> None:
        """Take no more jobs; end those that are there once the drain time is over."""
        with self._wake:
            if not self.draining:
                self._drained_by = time.monotonic() + self.limits.drain_seconds
            self._wake.notify()

    def stop(self) -> None:
        """End all jobs at once; those who wait for them are told."""
        with self._wake:
            self._drained_by = 0.0
            self._wake.notify()

    def close(self) -> None:
        """Stop, and wait until `run` has ended."""
        self.stop()
        if self._taking:
            self._done.wait()

    def _gather(self) -> bool:
        """Take in new jobs and end old ones; wait while there is nothing to do. Return whether to go on."""
        with self._wake:
            while not self._new and not self._busy() and not self.draining:
                self._wake.wait()
            new, self._new = self._new, []
            for job in new:
                self.lanes[job.model].waiting += [(job, place) for place in range(len(job.rows))]
        self._sweep()
        return not self.draining or self._busy() or bool(self._new)  # in this order: whoever drains takes no new ones

    def _busy(self) -> bool:
        return any(lane.busy for lane in self.lanes.values())

    def _sweep(self) -> None:
        """End jobs that were cancelled, and now and then those that are late."""
        now = time.monotonic()
        for lane in self.lanes.values():
            jobs = lane.jobs()
            if cancelled := {job for job in jobs if job.cancelled}:
                lane.end(cancelled)
            if self._drained_by is not None and now >= self._drained_by:
                lane.end(lane.jobs(), leaving())
        if now >= self._swept + SWEEP_SECONDS:
            self._swept = now
            for lane in self.lanes.values():
                lane.end({job for job in lane.jobs() if job.deadline <= now}, late(self.limits.answer_seconds))
