"""One client's connection: uvicorn's, with a limit on the time for a request's head, and errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from heedful.serve.problems import Problem

OPEN = 2  # connections for each that may wait to be accepted


class Connection(H11Protocol):
    """Closes itself when a request's head has not arrived in the app's `head_seconds`, or too many are open."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > OPEN * self.config.backlog:  # else no file could be opened any more
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or has a head that is too large."""
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400)
        problem = Problem(status, "The head of the request is too large." if status == 431 else msg)
        response = problem.response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        """Run the clock while the connection waits for a request's head, whether some of it has come or not."""
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._clock is None:
            app: Any = self.config.app  # create_app's
            self._clock = self.loop.call_later(app.state.limits.head_seconds, self._give_up)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
