"""`heedful serve` as a process: its door, its key, its end; and clients that send slowly, or what is no HTTP."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.processes import Process, heedful
from tests.serve.conftest import CHAT, Make, asking

from heedful.address import is_loopback
from heedful.commands import speaking, talk
from heedful.errors import UsageError
from heedful.generate.engine import Engine
from heedful.records import Sampling
from heedful.run import Run
from heedful.serve import server
from heedful.serve.key import API_KEY, check_host, read_key
from heedful.serve.limits import Limits
from heedful.serve.server import listen
from heedful.settings import load_config

KEY = "long-and-s3cret"
Serve = Callable[..., tuple[str, Process]]


@pytest.fixture
def serve(tiny_folder: Path, tmp_path: Path) -> Iterator[Serve]:
    """Start the command; give its URL, once it says that it listens, and the process."""
    started = []

    def start(*options: str) -> tuple[str, Process]:
        process = heedful(tmp_path, "serve", tiny_folder, "--port", "0", *options)
        started.append(process)
        (line,) = process.lines(1)
        told = re.fullmatch(r"tiny-llama at (\S+)", line)
        assert told, line
        return told[1], process

    yield start
    for process in started:
        process.kill()


HERE = speaking.ServerOptions("127.0.0.1", 0, None, (), ())


@pytest.mark.parametrize(
    ("start", "settings", "complaint"),
    [
        (
            lambda asked: speaking.serve("none", HERE, asked, False),
            {"generate.seed": "3"},
            "does not read generate.seed",
        ),
        (lambda asked: speaking.serve("none", HERE, asked, False), {"train.epochs": "3"}, "does not read train.epochs"),
        (lambda asked: speaking.chat("none", None, asked), {"generate.batch_size": "3"}, "does not read"),
        (lambda asked: talk.chat("none", key_file=Path("key")), {}, "--api-key-file is for a server"),
        (lambda asked: talk.chat(url="http://x", settings=asked), ["generate.precision=fp32"], "does not read"),
    ],
)
def test_what_nothing_reads_is_refused(start: Callable[[Any], None], settings: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        start(settings)


@pytest.mark.parametrize(
    ("of_the_run", "given", "longest"),
    [({}, {}, 1024), ({"generate.max_tokens": 700}, {}, 700), ({"generate.temperature": 1}, {}, 1024),
     ({"generate.max_tokens": 700}, {"generate.max_tokens": 9}, 9), ({}, {"generate.max_tokens": 256}, 256)],
)  # fmt: skip
def test_a_run_says_how_long_answers_are(
    of_the_run: Any, given: Any, longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(tmp_path).write_config(load_config(None, of_the_run))
    limits: list[Limits] = []
    shown: list[Sampling] = []
    monkeypatch.setattr("heedful.pipeline.load_served", lambda *_, **__: {"tiny": None})
    monkeypatch.setattr("heedful.serve.app.create_app", lambda *given: limits.append(given[2]))
    monkeypatch.setattr("heedful.serve.page_routes.page_routes", lambda *given: shown.append(given[2]))
    monkeypatch.setattr("heedful.serve.server.run", lambda app, listener, on_ready: listener.close())
    speaking.serve(str(tmp_path), HERE, given, False)
    assert [one.answer_tokens for one in limits] == [longest]
    temperature = of_the_run.get("generate.temperature", 0)
    assert shown == [Sampling(max_tokens=longest, temperature=temperature)]  # as the page says it


def test_sigterm_lets_answers_end(serve: Serve) -> None:
    url, process = serve("--max-tokens", "300")
    with httpx2.stream("POST", f"{url}{CHAT}", json=asking(stream=True), timeout=60) as reply:
        pieces = reply.iter_text()
        next(pieces)
        process.send(signal.SIGTERM)
        text = "".join(pieces)
    assert text.endswith("data: [DONE]\n\n")
    assert process.wait(60) == 0
    assert "Traceback" not in process.stderr


def test_the_first_signal_says_how_to_end_at_once_and_the_second_does(serve: Serve) -> None:
    url, process = serve("--max-tokens", "900")
    with httpx2.stream("POST", f"{url}{CHAT}", json=asking(stream=True), timeout=60) as reply:
        next(pieces := reply.iter_text())
        process.send(signal.SIGINT)
        told = process.lines(3)
        assert told[2] == "Shutting down; 1 answer is being finished. Ctrl-C again ends at once.", told
        process.send(signal.SIGINT)
        assert "The server is shutting down." in "".join(pieces)
    assert process.wait(60) == 0
    assert process.stderr.splitlines() == told


def test_a_server_that_does_nothing_just_ends(serve: Serve) -> None:
    _, process = serve()
    process.send(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stderr.splitlines()[2:] == ["Shutting down."]


def test_the_key_is_seen_nowhere(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    url, process = serve("--api-key-file", str(file), "--host", "0.0.0.0")
    assert httpx2.get(f"{url}/v1/models").status_code == 401
    assert httpx2.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    process.send(signal.SIGINT)
    assert process.wait(60) == 0
    assert KEY not in process.stderr + process.stdout


def test_other_addresses_need_a_key(tiny_folder: Path, tmp_path: Path) -> None:
    done = heedful(tmp_path, "serve", tiny_folder, "--host", "0.0.0.0")
    assert done.wait() == 2
    assert "everybody who reaches 0.0.0.0 could use the model." in done.stderr
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        check_host(host, None)
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.com", ""):
        assert not is_loopback(host)
        with pytest.raises(UsageError):
            check_host(host, None)


def test_keys_are_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("abc\n")
    assert read_key(file, API_KEY, {"HEEDFUL_API_KEY": "other"}) == "abc"
    assert read_key(None, API_KEY, {"HEEDFUL_API_KEY": " env "}) == "env"
    assert read_key(None, API_KEY, {}) is None
    for text in ("", "a b", "schlüssel"):
        file.write_text(text)
        with pytest.raises(UsageError):
            read_key(file, API_KEY, {})
    with pytest.raises(UsageError, match="Cannot read the key"):
        read_key(tmp_path / "none", API_KEY, {})


def test_a_taken_port_is_a_sentence() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UsageError, match="Choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def raw(client: httpx2.Client, *pieces: bytes, wait: float = 0.0) -> bytes:
    """Send bytes piece by piece, `wait` seconds apart, and read until the other side closes."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(wait)
            while data := connection.recv(65536):
                answer += data
        except (ConnectionError, BrokenPipeError):
            pass
        return answer


def test_slow_heads_and_bodies_are_cut_off(live: Make, engine: Engine) -> None:
    client = live({"tiny": engine}, limits=Limits(head_seconds=0.3, body_seconds=0.3))
    assert raw(client) == b""
    assert raw(client, *[b"G"] * 2, b"ET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 9, wait=0.2) == b""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    assert b" 408 " in raw(client, head, b"{", wait=0.1).splitlines()[0]
    twice = raw(client, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET", wait=0.5)
    assert twice.count(b"HTTP/1.1") == 1
    assert client.get("/health").status_code == 200


def test_more_connections_than_there_is_room_for_are_closed(
    live: Make, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would take every file that the process may open, and each that waits would be told of on stderr."""
    monkeypatch.setattr(server, "BACKLOG", 4)
    client = live({"tiny": engine})
    place = client.base_url.host, client.base_url.port
    idle = [socket.create_connection(place, timeout=20) for _ in range(2 * 4)]
    assert raw(client) == b""
    for connection in idle:
        connection.close()
    assert client.get("/health").status_code == 200


def test_a_server_may_open_as_many_files_as_the_system_lets_it() -> None:
    script = "\n".join([
        "import resource, sys",
        "from heedful.serve.server import open_files",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 900))",
        "print(open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["900", "900", "900"]


def test_each_server_of_a_process_has_its_own_limits(live: Make, engine: Engine) -> None:
    client = live({"tiny": engine}, limits=Limits(head_seconds=30.0))
    live({"tiny": engine}, limits=Limits(head_seconds=0.1))
    request = b"ET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b" 200 " in raw(client, b"G", request, wait=0.5).splitlines()[0]


def test_what_is_no_http_is_refused_in_the_same_shape(live: Make, engine: Engine) -> None:
    client = live({"tiny": engine})
    for sent, status in ((b"NONSENSE\r\n\r\n", b" 400 "), (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b" 431 ")):
        answer = raw(client, sent)
        assert status in answer.splitlines()[0]
        assert b'{"error":{"message":' in answer
    no_host = raw(client, b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert no_host.splitlines()[0].split()[1] in (b"400", b"403")
    for path in (b"/..%2f..%2fetc/passwd", b"//etc/passwd", b"/v1/../../etc/passwd", b"/page/..%2f..%2fetc/passwd"):
        answer = raw(client, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 404 " in answer.splitlines()[0] and b"root:" not in answer
