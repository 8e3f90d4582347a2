"""Requests in company: none notices the others, who leaves stops, who comes too late is told."""

from __future__ import annotations

import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import torch
from tests.generate.conftest import Bytes
from tests.models import tiny_model
from tests.serve.conftest import CHAT, Make, Saying, asking, events_of, said_in

from heedful.generate.engine import Engine, RunningBatch
from heedful.generate.prefix_cache import PrefixCache
from heedful.records import Sampling
from heedful.serve.limits import Limits
from heedful.serve.problems import Problem
from heedful.serve.scheduler import Job, Lane, Scheduler


def until(what: Any, seconds: float = 20) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def mixed(number: int) -> dict[str, Any]:
    """Make a request like no other, always the same for a number."""
    draw = random.Random(number)
    body = asking(
        "You are helpful. " * draw.randint(0, 2) + "Word " * draw.randint(1, 5) + str(number),
        model=draw.choice(["tiny", "other"]),
        max_tokens=draw.randint(1, 25),
        stream=draw.random() < 0.5,
        seed=draw.randint(-5, 2**40),
    )
    if draw.random() < 0.7:
        body |= {"temperature": draw.choice([0.3, 1.0, 2.0]), "n": draw.randint(1, 3)}
        body |= draw.choice([{}, {"top_p": 0.8}, {"top_k": 5}, {"min_p": 0.1}, {"frequency_penalty": 1.5}])
    if draw.random() < 0.3:
        body |= {"stop": ["e", "ab"]}
    if draw.random() < 0.3:
        body |= {"logprobs": True, "top_logprobs": 2}
    return body


def outcome(client: httpx2.Client, body: dict[str, Any]) -> Any:
    """Reduce an answer, streamed or not, to what must be the same each time."""
    reply = client.post(CHAT, json=body)
    assert reply.status_code == 200, reply.text
    if not body["stream"]:
        return [(c["message"]["content"], c["finish_reason"], c["logprobs"]) for c in reply.json()["choices"]]
    events = events_of(reply.text)
    choices = [choice for event in events[:-1] for choice in event["choices"]]
    noted = [(c["index"], c["logprobs"]) for c in choices if c["logprobs"]]
    ends = sorted((c["index"], c["finish_reason"]) for c in choices if c["finish_reason"])
    return [said_in(events, place) for place in range(body.get("n", 1))], sorted(noted, key=lambda x: x[0]), ends


@pytest.mark.parametrize(("kind", "count"), [("llama", 50), ("gpt_neox", 20)])
def test_what_is_asked_in_parallel_is_answered_as_one_by_one(live: Make, kind: str, count: int) -> None:
    engines = {name: Engine(tiny_model(kind, seed), Bytes(), name) for seed, name in enumerate(["tiny", "other"])}
    assert (engines["tiny"].decoder is None) == (kind == "gpt_neox")
    client = live(engines, limits=Limits(waiting=500, running=16))
    bodies = [mixed(number) for number in range(count)]
    alone = [outcome(client, body) for body in bodies]
    with ThreadPoolExecutor(count) as pool:
        together = list(pool.map(lambda body: outcome(client, body), bodies))
    assert together == alone
    greedy = [i for i, body in enumerate(bodies) if "temperature" not in body and "stop" not in body]
    assert greedy
    for i in greedy:
        text = (
            engines[bodies[i]["model"]]
            .generate([bodies[i]["messages"][0]["content"]], Sampling(max_tokens=bodies[i]["max_tokens"]))[0]
            .text
        )
        assert text in (alone[i][0][0], alone[i][0])


def test_a_beginning_that_was_read_before_changes_no_bit() -> None:
    engine = Engine(tiny_model("llama"), Bytes(), "tiny")
    kept = PrefixCache(2**20)
    system = list(range(40, 90))
    first = RunningBatch(engine, kept)._batch.join([[*system, 1, 2, 3]])
    assert kept.held > 0
    fresh = RunningBatch(engine)._batch.join([[*system, 7, 8]])
    found = RunningBatch(engine, kept)._batch.join([[*system, 7, 8]])
    assert torch.equal(fresh, found)
    assert torch.equal(first, RunningBatch(engine)._batch.join([[*system, 1, 2, 3]]))


def test_beginnings_hold_no_more_than_they_may() -> None:
    states = torch.zeros(100, dtype=torch.uint8)
    kept = PrefixCache(250)
    kept.keep(b"a", states)
    kept.keep(b"b", states)
    assert kept.find(b"a") is not None
    kept.keep(b"c", states)
    assert kept.find(b"b") is None and kept.find(b"a") is not None and kept.held == 200
    kept.keep(b"d", torch.zeros(300, dtype=torch.uint8))
    assert kept.find(b"d") is None


def test_a_full_queue_says_when_to_come_back(live: Make) -> None:
    client = live({"slow": Saying("x" * 60, 0.02)}, limits=Limits(waiting=2, running=1))
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: client.post(CHAT, json=asking()), range(8)))
    statuses = [reply.status_code for reply in replies]
    assert set(statuses) == {200, 429}
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "queue_full"
    assert client.post(CHAT, json=asking()).status_code == 200


def test_who_leaves_stops_the_decoding(live: Make) -> None:
    engine = Saying("x" * 100, 0.01)
    client = live({"slow": engine})
    scheduler, threads = client.app.state.scheduler, threading.active_count()
    for number in range(10):
        with client.stream("POST", CHAT, json=asking(stream=True)) as reply:
            assert next(reply.iter_text())
        if number % 2:
            with pytest.raises(httpx2.ReadTimeout):
                client.post(CHAT, json=asking(), timeout=0.05)
    until(lambda: scheduler.running == 0)
    assert engine.steps < 10 * 100
    assert threading.active_count() <= threads + 2
    assert "heedful_abandoned_total 15" in client.get("/metrics").text
    assert client.post(CHAT, json=asking()).json()["choices"][0]["message"]["content"] == "x" * 100


def test_a_slow_reader_does_not_hold_up_the_others(live: Make) -> None:
    client = live({"slow": Saying("x" * 100, 0.005)})
    with client.stream("POST", CHAT, json=asking(stream=True)) as unread:
        assert client.post(CHAT, json=asking()).status_code == 200
        assert said_in(events_of(unread.read().decode())) == "x" * 100


def test_late_answers_end_in_an_error(live: Make) -> None:
    client = live({"slow": Saying("x" * 100, 0.05)}, limits=Limits(answer_seconds=0.5))
    reply = client.post(CHAT, json=asking())
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "timeout")
    assert reply.headers["x-should-retry"] == "false"
    events = events_of(client.post(CHAT, json=asking(stream=True)).text)
    assert events[-1]["error"]["code"] == "timeout"
    assert said_in(events[:-1])


def test_draining_ends_what_runs_and_refuses_what_comes(live: Make) -> None:
    client = live({"slow": Saying("x" * 50, 0.05)})
    with ThreadPoolExecutor() as pool:
        running = pool.submit(client.post, CHAT, json=asking())
        until(lambda: client.app.state.scheduler.running)
        client.server.handle_exit(15, None)
        refused = client.post(CHAT, json=asking())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert client.get("/health").status_code == 503
        assert running.result().json()["choices"][0]["message"]["content"] == "x" * 50
    with pytest.raises(httpx2.ConnectError):
        until(lambda: client.get("/health").status_code == 200)


def test_draining_does_not_wait_for_ever(live: Make) -> None:
    client = live({"slow": Saying("x" * 100, 0.1)}, limits=Limits(drain_seconds=0.3))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(client.post, CHAT, json=asking(stream=True))
        until(lambda: client.app.state.scheduler.running)
        client.server.handle_exit(15, None)
        assert events_of(running.result().text)[-1]["error"]["code"] == "shutting_down"


def test_a_signal_just_before_the_models_sleep_ends_the_server(
    live: Make, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = live({"tiny": engine})
    scheduler, wait = client.app.state.scheduler, client.app.state.scheduler._wake.wait

    def interrupted_wait() -> None:
        client.server.handle_exit(15, None)  # nobody waits yet who could be woken
        wait()

    monkeypatch.setattr(scheduler._wake, "wait", interrupted_wait)
    assert client.post(CHAT, json=asking()).status_code == 200
    until(lambda: not scheduler.alive)


@pytest.mark.parametrize(("read_tokens", "answer_tokens"), [(1, 40), (2048, 1)])
def test_streams_go_on_while_others_join(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, read_tokens: int, answer_tokens: int
) -> None:
    """Neither a queue of which one row at a time may join, nor one that never ends, lets a running row stand still."""
    monkeypatch.setattr("heedful.serve.scheduler.JOINING_TOKENS", read_tokens)
    lane = Lane(engine, Limits())
    told: list[str] = []

    def wait(name: str, tokens: int) -> None:
        row = engine.row(0, "Hello", Sampling(max_tokens=tokens))
        lane.waiting.append((Job("tiny", [row], lambda _place, _event: told.append(name), math.inf), 0))

    wait("stream", 60)
    lane.turn()
    for _ in range(20):
        wait("other", answer_tokens)
        lane.turn()
    assert told.count("stream") == 11  # one token for its own join, then one for each join of another


class Failing(Saying):
    """Fails at its third token, once, with a message that is hard to write down."""

    failures = 0

    def choose(self, rows: Any, logits: torch.Tensor) -> list[int]:
        if rows[0].answered == 2 and not self.failures:
            self.failures += 1
            raise RuntimeError('a "quoted"\nmessage of 3 GiB')
        return super().choose(rows, logits)


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_that_fails_is_an_error_and_the_next_request_is_answered(
    live: Make, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    client = live({"failing": Failing("abcdef")})
    reply = client.post(CHAT, json=asking(stream=stream))
    error = events_of(reply.text)[-1] if stream else reply.json()
    assert error["error"]["code"] == "failed"
    assert "quoted" not in reply.text
    assert "quoted" in str(caplog.records[0].exc_info) and caplog.records[0].name == "heedful.serve"
    assert client.post(CHAT, json=asking()).json()["choices"][0]["message"]["content"] == "abcdef"


def test_a_thread_that_broke_answers_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler({"tiny": engine}, Limits())
    told: list[Any] = []

    def job() -> Job:
        return Job("tiny", [engine.row(0, "Hello", Sampling())], lambda _, event: told.append(event), math.inf)

    scheduler.submit(job())
    monkeypatch.setattr(Lane, "turn", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scheduler.run()
    assert not scheduler.alive
    assert [event.status for event in told] == [503]
    with pytest.raises(Problem, match="shutting down"):
        scheduler.submit(job())


def test_a_job_that_comes_just_before_the_drain_is_answered(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, told = Scheduler({"tiny": engine}, Limits()), list[Any]()
    left, late = (
        Job("tiny", [engine.row(0, "Hello", Sampling(max_tokens=3))], lambda _, event: told.append(event), math.inf)
        for _ in range(2)
    )
    left.cancelled, sweep = True, scheduler._sweep

    def sweep_late() -> None:
        """Do what other threads may do once new jobs were taken in."""
        if not scheduler.draining:
            scheduler.submit(late)
            scheduler.drain()
        sweep()

    monkeypatch.setattr(scheduler, "_sweep", sweep_late)
    scheduler.submit(left)
    scheduler.run()
    assert told[-1].completion.text
