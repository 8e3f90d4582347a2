"""What a server on this machine does: start, first token, one stream and eight, memory over many requests.

    python -m benchmarks.serve [RUN_OR_MODEL] [--requests 1000] [--out FILE]

The server is a process of its own, started as a user starts it. Each figure is kept with all its samples.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

STREAMS = 8
ROUNDS = 5
TOKENS = 128  # of each answer; its stop token is made unlikely, so that all are as long
ABANDONED = 10  # of so many requests one is left by its client
PROMPT = (
    "List facts about number {number}: how it is written, where it is met, what it is divided by, and who likes it."
)


@contextmanager
def server(model: str) -> Iterator[tuple[httpx2.Client, int, float]]:
    """Start a server; give a client, the process id, and the seconds until it was ready."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "heedful", "serve", model, "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = next((line for line in process.stderr if " at http" in line), None)
    if line is None:
        raise SystemExit("the server did not start")
    seconds = time.perf_counter() - started
    url = line.split(" at ")[1].split("/v1")[0]
    try:
        with httpx2.Client(base_url=url, timeout=300, trust_env=False) as client:
            yield client, process.pid, seconds
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def stream(client: httpx2.Client, number: int, tokens: int, stop_ids: list[int]) -> dict[str, Any]:
    """Stream an answer; give the seconds to its first text and to its end, and its tokens."""
    body = {
        "messages": [{"role": "user", "content": PROMPT.format(number=number)}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logit_bias": {str(token): -100 for token in stop_ids},
    }
    usage: dict[str, int] = {}
    started, first = time.perf_counter(), 0.0
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if not first and event["choices"] and event["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - started
            usage = event.get("usage") or usage
    return {"first": first, "seconds": time.perf_counter() - started, **usage}


def rate(client: httpx2.Client, streams: int, number: int, stop_ids: list[int]) -> float:
    """Give the tokens a second of so many streams together."""
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        done = pool.map(lambda i: stream(client, number + i, TOKENS, stop_ids), range(streams))
        written = sum(answer["completion_tokens"] for answer in done)
    return float(written / (time.perf_counter() - started))


def resident(process: int) -> int:
    """Give a process's resident memory in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def endure(client: httpx2.Client, process: int, requests: int) -> list[int]:
    """Send many requests, some of which their clients leave; give the memory after each tenth of them."""
    seen = [resident(process)]
    for number in range(requests):
        body = {"messages": [{"role": "user", "content": PROMPT.format(number=number)}], "max_tokens": 8}
        if number % ABANDONED == 0:
            with client.stream(
                "POST", "/v1/chat/completions", json={**body, "max_tokens": 500, "stream": True}
            ) as reply:
                next(reply.iter_raw())
        else:
            client.post("/v1/chat/completions", json=body).raise_for_status()
        if (number + 1) % max(1, requests // 10) == 0:
            seen.append(resident(process))
    return seen


def measure(model: str, requests: int) -> dict[str, Any]:
    """Measure everything on one server; one stream and eight take turns."""
    with server(model) as (client, process, ready):
        chat = {"messages": [{"role": "user", "content": PROMPT.format(number=0)}]}
        prompt_tokens = client.post("/tokenize", json=chat).json()["count"]
        stop = client.post("/tokenize", json={"prompt": "<|im_end|><|endoftext|>"}).json()["tokens"]
        stop_ids = stop if len(stop) <= 2 else []
        stream(client, 0, 8, stop_ids)
        first = [stream(client, 10 + i, 4, stop_ids)["first"] for i in range(4 * ROUNDS)]
        one, many = [], []
        for turn in range(ROUNDS):
            one.append(rate(client, 1, 100 + 10 * turn, stop_ids))
            many.append(rate(client, STREAMS, 200 + 10 * turn, stop_ids))
        memory = endure(client, process, requests)
    return {
        "model": model,
        "python": platform.python_version(),
        "prompt_tokens": prompt_tokens,
        "ready_seconds": ready,
        "first_token_seconds": {"median": statistics.median(first), "samples": first},
        "one_stream_tokens_per_s": {"median": statistics.median(one), "samples": one},
        f"{STREAMS}_streams_tokens_per_s": {"median": statistics.median(many), "samples": many},
        "ratio": statistics.median(b / a for a, b in zip(one, many, strict=True)),
        "requests": requests,
        "abandoned": len(range(0, requests, ABANDONED)),
        "resident_bytes": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serve.json"))
    arguments = parser.parse_args()
    found = measure(arguments.model, arguments.requests)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "resident_bytes"}, indent=1))


if __name__ == "__main__":
    main()
