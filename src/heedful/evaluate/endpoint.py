"""One question at a time to an OpenAI-compatible server that may be busy, broken or gone.

Retries what may pass (429, 5xx, a closed or silent connection, what is no answer), waits as long as the server asks,
and says in one sentence why nothing came. The key goes to the one address that was named: redirects are not followed.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from heedful.address import redacted
from heedful.errors import HeedfulError, UsageError, reason_of
from heedful.openai_server import client_options, error_text, route_url

ATTEMPTS = 4
TIMEOUT = 60.0  # seconds without a byte
LONGEST_WAIT = 60.0  # seconds, whatever the server asks
LARGEST = 1 << 20  # bytes of an answer
LONGEST_REPLY = 512  # tokens: an integer, and room for models that think first
LONGEST_THOUGHT = 4096  # tokens, where a model's hidden thoughts count as well
UNSUPPORTED = re.compile(r"(?=.*(max_tokens|temperature)).*(unsupported|not support)", re.IGNORECASE)
PASSING = {408, 409, 425, 429}
MUST_END = {401, 403, 404}

Messages = Sequence[Mapping[str, str]]


class NoReply(HeedfulError):
    """A question that got no reply: `refused` for what it says, `fatal` where no other would get one either."""

    def __init__(self, reason: str, refused: bool = False, fatal: bool = False) -> None:
        super().__init__(reason)
        self.refused, self.fatal = refused, fatal


class _Passing(Exception):
    """A fault that may pass; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    prompt_tokens: int
    completion_tokens: int


@dataclass
class Endpoint:
    """A server's chat completions, and the model asked there. The key is never shown: not in errors, not in repr."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = TIMEOUT
    backoff: float = 1.0  # seconds before the second attempt; doubled before each further one

    def __post_init__(self) -> None:
        self.url = completions_url(self.url)
        self._client = httpx2.Client(**client_options(self.url, self.key, self.timeout))
        weakref.finalize(self, self._client.close)  # once nobody holds it, threads that still ask included
        self._reasons = False  # whether the model refuses the usual fields, as OpenAI's reasoning models do

    def body(self, messages: Messages) -> dict[str, Any]:
        """Return a request's body, which asks for as repeatable a reply as the server can give."""
        return {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "seed": 123,
            "max_tokens": LONGEST_REPLY,
        }

    def ask(self, messages: Messages, attempts: int = ATTEMPTS, stopped: threading.Event | None = None) -> Reply:
        """Get a reply; NoReply after so many attempts, once `stopped` is set, or where trying again cannot help."""
        stopped = stopped or threading.Event()
        for attempt in range(1, attempts + 1):
            try:
                return self._once(messages)
            except _Passing as fault:
                if attempt == attempts or stopped.is_set():
                    raise NoReply(f"{fault} ({attempt} attempts)") from None
                usual = self.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                stopped.wait(min(fault.wait if fault.wait is not None else usual, LONGEST_WAIT))
        raise AssertionError("the last attempt returns or raises")

    def _once(self, messages: Messages) -> Reply:
        """Ask once; where the model refuses the usual fields, again in the other ones, which are used from then on."""
        body = self.body(messages)
        if reasons := self._reasons:
            del body["temperature"], body["max_tokens"]
            body["max_completion_tokens"] = LONGEST_THOUGHT
        try:
            return self._post(body)
        except NoReply as refusal:
            if reasons or not (refusal.refused and UNSUPPORTED.search(refusal.problem)):
                raise
        self._reasons = True
        return self._once(messages)

    def _post(self, body: Mapping[str, Any]) -> Reply:
        try:
            with self._client.stream("POST", self.url, json=body) as response:
                content = self._read(response)
        except httpx2.TimeoutException:
            raise _Passing(f"no answer within {self.timeout:g} s") from None
        except httpx2.ConnectError as error:
            raise _Passing(f"cannot connect: {reason_of(error)}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _Passing(f"the connection broke: {reason_of(error)}") from None
        return _reply(content)

    def _read(self, response: httpx2.Response) -> bytes:
        """Read an answer, at most LARGEST bytes of it; raise for every status but 200."""
        status = response.status_code
        told = f"it answers {status} {response.reason_phrase}".strip()
        if status in PASSING or status >= 500:
            raise _Passing(told, _retry_after(response.headers.get("Retry-After")))
        if response.is_redirect:
            raise NoReply(f"{told}: redirects are not followed", fatal=True)
        content, deadline = b"", time.monotonic() + 10 * self.timeout
        for piece in response.iter_bytes():
            content += piece
            if len(content) > LARGEST:
                raise NoReply(f"its answer is larger than {LARGEST >> 20} MiB", refused=True)
            if time.monotonic() > deadline:
                raise _Passing(f"its answer took longer than {10 * self.timeout:g} s")
        if status != httpx2.codes.OK:
            why = error_text(content.decode("utf-8", "replace"), self.url, self.key)
            raise NoReply(f"{told}: {why}".rstrip(": "), refused=True, fatal=status in MUST_END)
        return content


def completions_url(url: str) -> str:
    """Return the address of a server's chat completions; UsageError if the server's cannot be one."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--judge {redacted(url)} is not a URL.", "Write it as http://127.0.0.1:11434/v1.")
    if parts.username or parts.password:
        raise UsageError(
            "--judge holds a name or password.", "Give the key in HEEDFUL_JUDGE_KEY or with --judge-key-file."
        )
    return route_url(url, "chat/completions")


def _reply(content: bytes) -> Reply:
    try:
        answer = json.loads(content)
        text = answer["choices"][0]["message"]["content"]
        usage = answer.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _Passing("its answer is not a chat completion") from None
    if not isinstance(text, str):
        raise _Passing("its answer holds no text")
    return Reply(text, *counts)


def _retry_after(value: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
