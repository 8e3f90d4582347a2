"""Events of an answer -> OpenAI's JSON: whole, or as the chunks of a stream. `Chat` and `Text` are the two shapes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from heedful import __version__
from heedful.generate.text import Spelling
from heedful.records import Choice, Completion

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


class Shape(Protocol):
    """How one kind of answer is written down."""

    prefix: str  # of ids
    whole: str  # `object` of an answer
    chunk: str  # `object` of a part

    def opening(self, place: int) -> Json | None: ...  # a choice's first chunk
    def part(self, place: int, text: str, choices: Sequence[Choice]) -> Json: ...
    def closing(self, place: int, reason: str) -> Json: ...
    def choice(self, place: int, answer: Completion, choices: Sequence[Choice]) -> Json: ...


class Chat:
    prefix, whole, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, spelling: Spelling, logprobs: bool) -> None:
        self._spelling, self._logprobs = spelling, logprobs

    def opening(self, place: int) -> Json:
        return self._delta(place, {"role": "assistant", "content": ""})

    def part(self, place: int, text: str, choices: Sequence[Choice]) -> Json:
        return self._delta(place, {"content": text}, choices)

    def closing(self, place: int, reason: str) -> Json:
        return self._delta(place, {}, reason=reason)

    def choice(self, place: int, answer: Completion, choices: Sequence[Choice]) -> Json:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        return {
            "index": place,
            "message": message,
            "logprobs": self._content(choices),
            "finish_reason": answer.finish_reason,
        }

    def _delta(self, place: int, delta: Json, choices: Sequence[Choice] = (), reason: str | None = None) -> Json:
        logprobs = self._content(choices) if choices else None
        return {"index": place, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def _content(self, choices: Sequence[Choice]) -> Json | None:
        if not self._logprobs:
            return None
        return {"content": [self._token(choice) for choice in choices], "refusal": None}

    def _token(self, choice: Choice) -> Json:
        top = [spelled(self._spelling, token, logprob) for token, logprob in choice.top]
        return {**spelled(self._spelling, choice.token, choice.logprob), "top_logprobs": top}


class Text:
    prefix, whole, chunk = "cmpl-", "text_completion", "text_completion"

    def __init__(self, spelling: Spelling, logprobs: bool) -> None:
        self._spelling, self._logprobs = spelling, logprobs

    def opening(self, place: int) -> None:
        return None

    def part(self, place: int, text: str, choices: Sequence[Choice]) -> Json:
        return {"index": place, "text": text, "logprobs": self._columns(choices), "finish_reason": None}

    def closing(self, place: int, reason: str) -> Json:
        return {"index": place, "text": "", "logprobs": None, "finish_reason": reason}

    def choice(self, place: int, answer: Completion, choices: Sequence[Choice]) -> Json:
        return {**self.part(place, answer.text, choices), "finish_reason": answer.finish_reason}

    def _columns(self, choices: Sequence[Choice]) -> Json | None:
        """Write logprobs as four lists, one entry a token each."""
        if not self._logprobs:
            return None
        return {
            "tokens": [self._name(choice.token) for choice in choices],
            "token_logprobs": [choice.logprob for choice in choices],
            "top_logprobs": [{self._name(token): logprob for token, logprob in choice.top} for choice in choices],
            "text_offset": [choice.start for choice in choices],
        }

    def _name(self, token: int) -> str:
        """Write a token; a part of a character as OpenAI does where nothing else tells its bytes: `bytes:\\xf0`."""
        raw = self._spelling.bytes_of(token)
        try:
            return raw.decode() or self._spelling.name_of(token)
        except UnicodeDecodeError:
            return "bytes:" + raw.decode("utf-8", "backslashreplace")


class Envelope:
    """The fields that all chunks of one answer share; `counted` says whether a stream ends with the count of tokens."""

    def __init__(self, shape: Shape, model: str, counted: bool) -> None:
        self._shape, self._counted = shape, counted
        self._head = {"id": shape.prefix + secrets.token_hex(12), "created": int(time.time()), "model": model}

    def whole(self, choices: Sequence[Json], usage: Json) -> Json:
        return {**self._of(self._shape.whole), "choices": list(choices), "usage": usage}

    def chunk(self, choices: Sequence[Json], usage: Json | None = None) -> bytes:
        """Write a part of a stream; where usage is counted every chunk has the field, and the last one the numbers."""
        body = {**self._of(self._shape.chunk), "choices": list(choices)}
        return sse({**body, "usage": usage} if self._counted else body)

    def _of(self, kind: str) -> Json:
        return {**self._head, "object": kind, "system_fingerprint": f"heedful-{__version__}"}


def sse(body: Mapping[str, Any]) -> bytes:
    """Write an event, in ASCII: many clients end their lines at U+2028 or U+0085 too, and would cut it there."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def usage(prompt_tokens: int, answers: Sequence[Completion]) -> Json:
    written = sum(len(answer.token_ids) for answer in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
    }


def spelled(spelling: Spelling, token: int, logprob: float) -> Json:
    """Write a token with its bytes: a token may be a part of a character, which only the bytes tell."""
    raw = spelling.bytes_of(token)
    text = raw.decode("utf-8", "replace") if raw else spelling.name_of(token)
    return {"token": text, "logprob": logprob, "bytes": list(raw) if raw else None}
