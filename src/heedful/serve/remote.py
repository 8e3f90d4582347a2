"""An OpenAI-compatible server, seen as the engine that the terminal chat talks to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import httpx2

from heedful.address import redacted
from heedful.errors import ModelError, UsageError, reason_of
from heedful.openai_server import client_options, error_text, route_url
from heedful.records import Completion, Message, Sampling
from heedful.serve.chat import TooLong

SILENCE_SECONDS = 120.0  # longest wait for a next word
UNKNOWN_CONTEXT = 4096  # tokens of a conversation, where a server does not tell its context
BYTES = 4  # of a token: English has between four and five
FRAME = 4  # tokens that a template puts around a message
DONE: dict[str, Any] = {"choices": [{"finish_reason": "stop"}]}  # what [DONE] says where nothing else said it before


@dataclass
class Remote:
    """One model of a server."""

    url: str  # of the server, as it was named
    name: str
    context: int | None  # in tokens, where the server tells
    options: Mapping[str, Any]  # of every request
    key: str | None = field(default=None, repr=False)
    named: set[str] = field(default_factory=set)  # settings that are sent; of the others the server decides

    @property
    def positions(self) -> int:
        return self.context or UNKNOWN_CONTEXT

    def stream(self, prompt: Sequence[Message], sampling: Sampling) -> Iterator[str | Completion]:
        """Return an answer's text piece by piece, then the whole Completion; ModelError if the server refuses or leaves
        before the answer's end, TooLong if it finds the conversation too long."""
        body = {"model": self.name, "messages": [{"role": m.role, "content": m.content} for m in prompt]}
        text, reason = "", None
        try:
            asked = {**body, **self._settings(sampling), "stream": True}
            with httpx2.stream("POST", route_url(self.url, "chat/completions"), json=asked, **self.options) as reply:
                if reply.status_code != 200:
                    reply.read()
                    raise self._refusal(reply)
                for event in _events(reply.iter_text()):
                    if event.get("error"):
                        raise ModelError(f"The server says: {self._said(json.dumps(event))}")
                    for choice in event.get("choices") or []:
                        reason = reason or choice.get("finish_reason")
                        if piece := (choice.get("delta") or {}).get("content"):
                            text += piece
                            yield piece
        except httpx2.HTTPError as error:
            raise ModelError(f"The server at {redacted(self.url)} does not answer: {reason_of(error)}.") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"The server at {redacted(self.url)} sent no chat completion: {reason_of(error)}."
            ) from error
        if not reason:
            raise ModelError("The answer was cut off: the server left before its end.", "Ask again.")
        yield Completion(text, (), "stop" if reason == "stop" else "length", 0, 0.0)  # also by a filter, or for a tool

    def _refusal(self, reply: httpx2.Response) -> ModelError:
        """Return the error to raise: TooLong for a conversation that is; servers have many codes for it, but all name
        the context."""
        too_long = reply.status_code == 413 or (reply.status_code == 400 and "context" in reply.text)
        return (TooLong if too_long else ModelError)(f"The server says: {self._said(reply.text)}")

    def _said(self, body: str) -> str:
        return error_text(body, self.url, self.key) or "nothing"

    def _settings(self, sampling: Sampling) -> dict[str, Any]:
        written = {"stop": list(sampling.stop), "max_tokens": sampling.max_tokens}
        if self.context is not None:
            written["max_tokens"] = min(sampling.max_tokens, self.context // 2)  # which the chat leaves
        return {name: written.get(name, getattr(sampling, name)) for name in sorted(self.named)}

    def count(self, messages: Sequence[Message]) -> int:
        """Guess the tokens of a prompt, as English has them, so that turns go when the answer needs their room.

        Where there are more than fit, the server refuses them, and the oldest turns go as well.
        """
        return sum(len(message.content.encode()) // BYTES + FRAME for message in messages)


def _events(pieces: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Read server-sent events. Their lines end at line feeds; U+2028 and U+0085, where httpx would cut too, may stand
    inside."""
    held = ""
    for piece in chain(pieces, "\n"):  # the last line need not be ended
        *lines, held = (held + piece).split("\n")
        for line in lines:
            data = line.removeprefix("data:").strip()
            if line.startswith("data:") and data:  # without any it keeps the connection open
                event = DONE if data == "[DONE]" else json.loads(data)
                if isinstance(event, dict):
                    yield event


def connect(url: str, model: str | None, key: str | None) -> Remote:
    """Find a server's model: the one named, or its first; UsageError if there is none."""
    shown = redacted(url)
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{shown} is not the URL of a server.", "Write it as http://127.0.0.1:8000.")
    try:
        options = client_options(url, key, SILENCE_SECONDS)
        reply = httpx2.get(route_url(url, "models"), **options)
        if reply.status_code != 200:
            raise UsageError(f"The server at {shown} says: {error_text(reply.text, url, key) or 'nothing'}")
        listed = {entry["id"]: entry for entry in reply.json()["data"]}
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"No server answers at {shown}: {reason_of(error)}.", "Is it running?") from error
    if not listed or (model is not None and model not in listed):
        raise UsageError(f"The server at {shown} has no model '{model}'.", f"It has: {', '.join(listed) or 'none'}.")
    name = model or next(iter(listed))
    context = listed[name].get("max_model_len")
    return Remote(url, name, context if type(context) is int and context > 1 else None, options, key)
