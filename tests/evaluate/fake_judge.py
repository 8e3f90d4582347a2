"""A judge on loopback that answers well, or misbehaves as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret-0123456789"


class Judge:
    """A fake server: grades 90 where the answer is the reference, 10 elsewhere; `faults` come first, one a request."""

    def __init__(self) -> None:
        self.faults: list[Any] = []
        self.always: Any = None
        self.at: dict[str, Any] = {}  # a text of a question -> the fault that it always meets
        self.seen: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.reply: Any = None
        self.url = ""
        self.lock = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.seen.append(body)
            self.headers.append(handler.headers)
            met = next((fault for text, fault in self.at.items() if text in body["messages"][-1]["content"]), None)
            fault = met or self.always or (self.faults.pop(0) if self.faults else None)
        if fault == "close":
            handler.connection.close()
        elif fault == "hang":
            time.sleep(1.0)
        elif isinstance(fault, tuple):
            self.send(handler, *fault)
        else:
            text = fault if isinstance(fault, str) else self.judge(body["messages"][-1]["content"])
            usage = {"prompt_tokens": 100, "completion_tokens": 2}
            self.send(handler, 200, json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}))

    def judge(self, content: str) -> str:
        if self.reply is not None:
            return str(self.reply(content) if callable(self.reply) else self.reply)
        texts = marked(content) or {"answer": "", "reference": ""}
        if "answer" in texts:
            return "90" if texts["answer"] == texts["reference"] else "10"
        return "A" if texts["answer A"] == texts["reference"] else "B"

    def send(
        self, handler: BaseHTTPRequestHandler, status: int, text: str, headers: dict[str, str] | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())


def marked(content: str) -> dict[str, str]:
    """Read the texts between the markers, trusting the tag of the first one alone."""
    tag = content.partition(">>")[0].rpartition(" ")[2]
    texts, rest = {}, content
    while f" {tag}>>\n" in rest:
        head, _, rest = rest.partition(f" {tag}>>\n")
        name = head.rpartition("<<")[2]
        text, _, rest = rest.partition(f"\n<<end of {name} {tag}>>")
        texts[name] = text
    return texts


@contextmanager
def serving() -> Iterator[Judge]:
    judge = Judge()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                judge.answer(self)
            except OSError:  # the client left
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
