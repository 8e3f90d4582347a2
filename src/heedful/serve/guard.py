"""The checks before every route: who may ask, from where, how much, and for how long.

A browser on this machine can be made to send requests here by any page it shows. Such a request names that page's host
(DNS rebinding) or its origin, and is refused. Tools send neither.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heedful.serve.counters import Counters
from heedful.serve.limits import Limits
from heedful.serve.problems import NO_RETRY, Problem

WITHOUT_KEY = frozenset({"/", "/health", "/healthz"})  # and what lies under PAGE: static files
PAGE = "/page/"
GRACE_SECONDS = 5.0  # from the end of an answer's time to that of its connection


@dataclass(frozen=True)
class AccessPolicy:
    """Who may ask: holders of `key` if there is one, under these host names, from pages of these origins."""

    key: str | None = None
    hosts: Collection[str] = ()  # besides localhost and addresses, which no foreign page can be named
    origins: Collection[str] = ()  # besides the server's own

    def __post_init__(self) -> None:
        """Write names as browsers do: in small letters, a host without its port, an origin without a path."""
        names = (host_of(host) for host in self.hosts if not is_address(host))  # '::1' would be cut as name and port
        object.__setattr__(self, "hosts", frozenset(names) - {""})  # which stands for what is no name at all
        object.__setattr__(self, "origins", frozenset(origin.lower().rstrip("/") for origin in self.origins))

    def check(self, path: str, headers: Headers) -> None:
        """Raise a Problem if a request is not to be trusted."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(host_of(hosts[0])):
            raise Problem(403, "This host name is not allowed here; see --allow-host.", code="host_not_allowed")
        origin = headers.get("origin")
        own = (f"http://{hosts[0]}", f"https://{hosts[0]}")
        if origin is not None and origin not in own and origin not in self.origins:
            raise Problem(
                403, "Pages of this origin may not use this server; see --allow-origin.", code="origin_not_allowed"
            )
        if self.key is not None and path not in WITHOUT_KEY and not path.startswith(PAGE):
            self._check_key(headers.get("authorization", ""))

    def _knows(self, host: str) -> bool:
        return host == "localhost" or host in self.hosts or is_address(host)

    def _check_key(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), (self.key or "").encode())
        if not (same and scheme.lower() == "bearer"):
            message = "The key is missing or wrong: send it as 'Authorization: Bearer KEY'."
            raise Problem(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def host_of(header: str) -> str:
    """Take the port off a Host header: '[::1]:8000' -> '::1'."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class TooSlow(TimeoutError):
    """Raised of a client that did not take all of its answer in time."""


class Guard:
    """An ASGI app around another: checks each request, reads its body within limits, counts what became of it."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy, limits: Limits, counters: Counters) -> None:
        self.app, self.policy, self.limits, self.counters = app, policy, limits, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        begun = False

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self.counters.requests[route_of(scope), message["status"]] += 1
            await send(message)

        try:
            headers = Headers(scope=scope)
            self.policy.check(scope["path"], headers)
            body = await self._body(headers, receive)
        except Problem as problem:
            return await problem.response()(scope, receive, counted)
        try:
            async with asyncio.timeout(self.limits.answer_seconds + GRACE_SECONDS) as time:
                return await self.app(scope, _replay(body, receive), counted)
        except TimeoutError as error:
            if begun and time.expired():
                raise TooSlow from error
            raise

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Read a request's body; raise a Problem if it is too large or too slow."""
        too_large = Problem(413, f"The body is larger than {self.limits.body} bytes.", code="body_too_large")
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.limits.body:
            raise too_large
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.limits.body:
                        raise too_large
        except TimeoutError:
            headers_out = {**NO_RETRY, "Connection": "close"}
            raise Problem(408, "The body did not arrive in time.", code="timeout", headers=headers_out) from None
        return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Make a `receive` that returns a body that was read already, and then whatever else comes."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def route_of(scope: Scope) -> str:
    """Name the route that a request took, not its path: there are endless paths."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "none"))
