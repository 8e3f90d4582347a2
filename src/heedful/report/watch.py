"""The page of a run while it goes on: served to this machine alone, made anew when the run's files change."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from heedful.errors import HeedfulError, UsageError
from heedful.report.page import report
from heedful.run import Run

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")


class Watcher(ThreadingHTTPServer):
    """Serves `/`, the page, and `/state`, a short text that differs when the page would."""

    daemon_threads = True

    def __init__(self, run: Run, port: int) -> None:
        self.run, self.making, self.made = run, Lock(), ("", b"")
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(f"Cannot serve on port {port}: {error.strerror}.", "Choose another --port.") from error

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"

    def state(self) -> str:
        """Name the state of the run's files by their sizes and times."""
        files = (
            self.run.metrics_file, self.run.receipt_file, self.run.evaluation_file, self.run.responses_file,
            self.run.data_map_file, self.run.provenance_file, self.run.config_file, self.run.model,
        )  # fmt: skip
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
        return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]

    def page(self) -> bytes:
        """Return the page of the present state; one that was made before is given again."""
        with self.making:
            state = self.state()
            if self.made[0] != state:
                self.made = state, report(self.run, live=state).encode()
            return self.made[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about a browser that left in the middle of an answer."""

    def knows(self, host: str) -> bool:
        """Say whether a request means this machine: a page of elsewhere, its name bound to 127.0.0.1, does not."""
        return host in {f"{name}:{self.server_address[1]}" for name in NAMES}


class _Handler(BaseHTTPRequestHandler):
    server: Watcher
    server_version, sys_version = "heedful", ""

    def do_GET(self) -> None:
        if not self.server.knows(self.headers.get("Host", "")):
            self._answer(403, "text/plain", b"This address is not served here.\n")
        elif self.path == "/state":
            self._answer(200, "text/plain", self.server.state().encode())
        elif self.path == "/":
            self._page()
        else:
            self._answer(404, "text/plain", b"There is nothing here.\n")

    def _page(self) -> None:
        try:
            self._answer(200, "text/html", self.server.page())
        except HeedfulError as error:
            self._answer(500, "text/plain", str(error).encode())

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        """Stay silent: the terminal is for the run."""
