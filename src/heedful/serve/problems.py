"""What goes wrong with a request, in OpenAI's shape: {"error": {"message", "type", "param", "code"}} and a status.

Clients retry 408, 409, 429 and 5xx by themselves; where that would only fail again, `x-should-retry: false` tells them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from heedful.clean import writable
from heedful.errors import HeedfulError

LOG = logging.getLogger("heedful.serve")
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
NO_RETRY = {"x-should-retry": "false"}


class Problem(Exception):
    """A request that cannot be answered: what the client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, writable(message), param and writable(param), code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def refused(message: str, param: str | None, code: str | None = None) -> Problem:
    """Say that the request itself is at fault."""
    return Problem(400, message, param, code)


def late(seconds: float) -> Problem:
    return Problem(408, f"The answer took longer than {seconds:g} s.", code="timeout", headers=NO_RETRY)


def full(waiting: int) -> Problem:
    message = f"{waiting} answers are waiting already. Try again in a moment."
    return Problem(429, message, code="queue_full", headers={"Retry-After": "1"})


def leaving() -> Problem:
    return Problem(503, "The server is shutting down.", code="shutting_down", headers={"Retry-After": "5"})


def broken(error: Exception) -> Problem:
    """Say that an answer failed; the text of a HeedfulError is for the user to read, that of others is not."""
    message = str(error) if isinstance(error, HeedfulError) else "Internal error; the server's log has it."
    return Problem(500, message, code="failed", headers=NO_RETRY)


def leave_trace(error: Exception) -> None:
    """Log what broke on the server's stderr; a HeedfulError was already told in full to the client."""
    if not isinstance(error, HeedfulError):
        LOG.error("An answer failed.", exc_info=error)


def install(app: FastAPI) -> None:
    """Let every error of an app leave in this shape."""

    @app.exception_handler(Problem)
    async def on_problem(_: Request, problem: Problem) -> JSONResponse:
        return problem.response()

    @app.exception_handler(RequestValidationError)
    async def on_wrong_body(_: Request, error: RequestValidationError) -> JSONResponse:
        return of_validation(error).response()

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        return Problem(error.status_code, str(error.detail), code=code, headers=error.headers).response()

    @app.exception_handler(Exception)  # whose traceback uvicorn writes to stderr
    async def on_failure(_: Request, error: Exception) -> JSONResponse:
        return broken(error).response()


def of_validation(error: RequestValidationError) -> Problem:
    """Name the first field that is wrong, and how: `messages.0.role: Input should be ...`."""
    first, *_ = errors = error.errors()
    if first["type"] == "json_invalid":
        return refused(f"The body is not JSON: {first.get('ctx', {}).get('error', 'it cannot be read')}.", None)
    # Where a field takes several kinds of value, each kind complains. The complaint about what lies deepest says most;
    # of these, one about the value and not its kind: a list that is too long is no text either, which tells nothing.
    own = (e for e in errors if e["loc"][:2] == first["loc"][:2])
    furthest = max(own, key=lambda e: (len(e["loc"]), not e["type"].endswith("_type")))
    cause = furthest.get("ctx", {}).get("error")
    if isinstance(problem := getattr(cause, "problem", None), Problem):  # what a model of ours found
        return problem
    if len(first["loc"]) < 2 and first["type"] == "value_error":  # of all the fields together
        return refused(f"{cause}.", None)
    if len(first["loc"]) < 2:
        return refused("The body must be a JSON object, sent with Content-Type: application/json.", None)
    name = ".".join(str(part) for part in furthest["loc"][1:] if not is_kind(part))
    return refused(f"{name}: {furthest['msg']}.", name)


def is_kind(part: str | int) -> bool:
    """Say whether a part of pydantic's `loc` names no field but one of the kinds that a value may be of."""
    return isinstance(part, str) and (part in ("str", "int") or "[" in part or part.startswith("constrained-"))
