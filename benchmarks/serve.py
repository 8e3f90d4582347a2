"""What a server does here: start, first token, one stream and eight, beside a peer; memory over many requests.

    python -m benchmarks.serve [--requests 1000] [--out FILE]

The servers take turns, each time as a process of its own, started as a user starts it. All samples are kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from benchmarks import results
from benchmarks.heedful_api import in_bf16
from benchmarks.machine import machine
from heedful.model.pretrained import load_tokenizer

STREAMS = 8
ROUNDS = 3
REPEATS = 3  # of each rate in a round
FIRST = 8  # first tokens timed in a round
TOKENS = 128  # of each answer at most
ABANDONED = 10  # of so many requests one is left by its client
MODEL = "smollm2-135m"
PROMPT = (
    "Write a very long story about a sailor who counts to {number}, with all that he sees and hears on his way there."
)
CHAT = "/v1/chat/completions"
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
KIND = "bf16" if in_bf16() else "fp32"  # as heedful chooses
PATIENCE = 120  # seconds until a server is ready


def command(server: str, port: int) -> list[str]:
    """Say how a server is started; the peer gets the same weights, as narrow as heedful's, and its running batches."""
    if server == "heedful":
        return [sys.executable, "-m", "heedful", "serve", MODEL, "--port", str(port)]
    weights = load_tokenizer(MODEL)[2]
    peer = Path(sys.executable).with_name("transformers")
    options = ["--continuous-batching", "--device", "cpu", "--dtype", DTYPES[KIND], "--port", str(port)]
    return [str(peer), "serve", *options, weights]


@contextmanager
def serving(server: str) -> Iterator[tuple[httpx2.Client, int, float]]:
    """Start a server; give a client, the process id, and the seconds until it was ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(command(server, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx2.Client(base_url=f"http://localhost:{port}", timeout=300, trust_env=False) as client:
            wait_until_ready(client, started)
            yield client, process.pid, time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_ready(client: httpx2.Client, started: float) -> None:
    """Ask until the server answers that it is well."""
    while time.perf_counter() - started < PATIENCE:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.02)
    raise SystemExit("the server did not start")


def stream(client: httpx2.Client, model: str, number: int, tokens: int) -> dict[str, Any]:
    """Stream an answer; give the seconds to its first text and to its end, and its tokens."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT.format(number=number)}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    usage: dict[str, int] = {}
    started, first = time.perf_counter(), 0.0
    with client.stream("POST", CHAT, json=body) as reply:
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if not first and event.get("choices") and event["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - started
            usage = event.get("usage") or usage
    return {"first": first, "seconds": time.perf_counter() - started, **usage}


def rate(client: httpx2.Client, model: str, streams: int, number: int) -> float:
    """Return the tokens a second of so many streams together."""
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        done = pool.map(lambda i: stream(client, model, number + i, TOKENS), range(streams))
        written = sum(answer["completion_tokens"] for answer in done)
    return float(written / (time.perf_counter() - started))


def round_of(server: str, turn: int) -> dict[str, Any]:
    """Start a server and measure it once."""
    with serving(server) as (client, _, ready):
        model = client.get("/v1/models").json()["data"][0]["id"] if server == "heedful" else command(server, 0)[-1]
        number = 1000 * turn + 1000
        began = stream(client, model, number, 8)["seconds"]
        first = [stream(client, model, number + 10 + i, 4)["first"] for i in range(FIRST)]
        one = [rate(client, model, 1, number + 100 + i) for i in range(REPEATS)]
        many = [rate(client, model, STREAMS, number + 200 + 10 * i) for i in range(REPEATS)]
    return {
        "ready_seconds": ready,
        "first_answer_seconds": ready + began,  # some prepare themselves only now
        "first_token_seconds": first,
        "one_stream_tokens_per_s": one,
        f"{STREAMS}_streams_tokens_per_s": many,
    }


def resident(process: int) -> int:
    """Return a process's resident memory in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def endure(requests: int) -> list[int]:
    """Send many requests, some of which their clients leave; give the memory after each tenth of them."""
    with serving("heedful") as (client, process, _):
        return list(memory(client, process, requests))


def memory(client: httpx2.Client, process: int, requests: int) -> Iterator[int]:
    yield resident(process)
    for number in range(requests):
        body = {"messages": [{"role": "user", "content": PROMPT.format(number=number)}], "max_tokens": 8}
        if number % ABANDONED == 0:
            with client.stream("POST", CHAT, json={**body, "max_tokens": 500, "stream": True}) as reply:
                next(reply.iter_raw())
        else:
            client.post(CHAT, json=body).raise_for_status()
        if (number + 1) % max(1, requests // 10) == 0:
            yield resident(process)


def medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median of each figure over all its samples."""
    samples = {
        name: [x for r in rounds for x in (r[name] if isinstance(r[name], list) else [r[name]])] for name in rounds[0]
    }
    return {name: statistics.median(found) for name, found in samples.items()}


def measure(requests: int) -> dict[str, Any]:
    """Let the servers take turns, then let ours endure."""
    rounds: dict[str, list[dict[str, Any]]] = {"heedful": [], "transformers": []}
    for turn in range(ROUNDS):
        for server, done in rounds.items():
            done.append(round_of(server, turn))
            print(f"{server}: {json.dumps(medians(done[-1:]))}", file=sys.stderr, flush=True)
    return {
        "model": MODEL,
        "kind": KIND,
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("heedful", "torch", "transformers")},
        },
        "medians": {server: medians(done) for server, done in rounds.items()},
        "rounds": rounds,
        "endurance": {
            "requests": requests,
            "abandoned": len(range(0, requests, ABANDONED)),
            "resident_bytes": endure(requests),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    folder = results.FOLDER if KIND == "bf16" else results.FP32
    parser.add_argument("--out", type=Path, default=folder / "serve.json")
    arguments = parser.parse_args()
    found = measure(arguments.requests)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["medians"], indent=1))


if __name__ == "__main__":
    main()
