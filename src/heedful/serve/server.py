"""An app on a socket, until a signal: the first one drains, the second ends at once."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from heedful.errors import UsageError
from heedful.report import screen
from heedful.serve.connection import Connection
from heedful.serve.guard import TooSlow

FLUSH_SECONDS = 5  # for the last bytes of answers, once all are whole
BACKLOG = 1024  # connections that wait to be accepted; twice as many may be open (connection.py)
MOST_FILES = 4 * BACKLOG  # open at a time: a connection is one
CUT_SECONDS = 1  # for telling who is still being answered that a second signal ended it


def run(app: FastAPI, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until a signal: the models in this thread, which must be the process's first, HTTP in another."""
    scheduler, server = app.state.scheduler, Server(config_of(app), app, ready)

    def serve() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            scheduler.drain()

    http = threading.Thread(target=serve, name="http")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    scheduler.expect()
    http.start()
    scheduler.run()
    http.join()


def config_of(app: FastAPI) -> uvicorn.Config:
    """Return uvicorn's settings for an app: quiet, over plain HTTP."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=min(BACKLOG, open_files() // 4),  # as many connections at a time may come before any is counted
        timeout_graceful_shutdown=FLUSH_SECONDS,
    )


def open_files() -> int:
    """Let this process open as many files as it needs, if the system allows it; return how many it may open."""
    told = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (MOST_FILES if limit == resource.RLIM_INFINITY else min(limit, MOST_FILES) for limit in told)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, told[1]))
            return hard
    return soft


class Server(uvicorn.Server):
    """A uvicorn server that accepts requests as long as the scheduler runs, so that while it drains new ones are told
    why they are refused."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._scheduler, self._ready = app.state.scheduler, ready
        self._told = False  # that it ends
        self._last = 0  # how many answers were under way at the first signal
        logging.getLogger("uvicorn.error").addFilter(is_failure)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Announce the shutdown here: the thread that takes the signal may be in the middle of printing a line."""
        if self._scheduler.draining and not self._told:
            self._told = True
            self._scheduler.drain()  # again: a signal just before its thread began to wait woke nobody
            screen.say(farewell(self._last))
        return await super().on_tick(counter) or not self._scheduler.alive

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: the first lets answers finish, the second ends them."""
        if self._scheduler.draining:
            self.config.timeout_graceful_shutdown = CUT_SECONDS
            self._scheduler.stop()
        else:
            self._last = self._scheduler.running + self._scheduler.waiting
        self._scheduler.drain()


def farewell(answers: int) -> str:
    """Say what a server that is shutting down still does."""
    if not answers:
        return "Shutting down."
    finished = "1 answer is" if answers == 1 else f"{answers} answers are"
    return f"Shutting down; {finished} being finished. Ctrl-C again ends at once."


def is_failure(entry: logging.LogRecord) -> bool:
    """Say whether a log entry of uvicorn is more than a client that was too slow for its answer, or the last bytes."""
    error = entry.exc_info[1] if entry.exc_info else None
    return not isinstance(error, asyncio.CancelledError | TooSlow)


def listen(host: str, port: int) -> socket.socket:
    """Bind a port; UsageError if that is not possible."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"Cannot listen on {host}:{port}: {reason}.", "Choose another --port or --host.") from error


def url_of(listener: socket.socket) -> str:
    """Return the URL of a socket; a wildcard address is given as the loopback."""
    host, port, *_ = listener.getsockname()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
