"""One answer in the making, and what it tells with each token."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from heedful.generate.text import TextStream
from heedful.records import Choice, Completion, FinishReason, Sampling


@dataclass(frozen=True, slots=True)
class Event:
    """A row took one more token: the text that became certain, the answer if it is whole, and the choices behind
    that text where the row records them."""

    row: int
    text: str
    completion: Completion | None
    choices: tuple[Choice, ...] = ()


@dataclass(eq=False)
class Row:
    """One answer in the making; `index` is its place among the prompts."""

    index: int
    tokens: list[int]  # prompt and answer
    prompt_tokens: int
    sampling: Sampling
    limit: int  # most tokens of the answer
    text: TextStream
    started: float = 0.0  # when it joined a batch
    choices: list[Choice] = field(default_factory=list)  # not told yet

    @property
    def answered(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def longest(self) -> int:
        """The most tokens that the prompt and its answer can have."""
        return self.prompt_tokens + self.limit

    def accept(self, token: int, stop_ids: frozenset[int]) -> tuple[str, FinishReason | None]:
        """Take the next token; give the text that became certain, and why the answer ends if it does."""
        if token in stop_ids:
            return self.text.flush(), "stop"
        self.tokens.append(token)
        piece = self.text.push(token)
        if self.text.stopped:
            return piece, "stop"
        if self.answered < self.limit:
            return piece, None
        piece += self.text.flush()
        return piece, "stop" if self.text.stopped else "length"

    def told(self) -> tuple[Choice, ...]:
        """Return and forget the recorded choices whose text has been given out, at least in part."""
        count = sum(choice.start < len(self.text.text) for choice in self.choices)
        told, self.choices = self.choices[:count], self.choices[count:]
        return tuple(told)

    def completion(self, reason: FinishReason) -> Completion:
        answer, seconds = tuple(self.tokens[self.prompt_tokens :]), time.perf_counter() - self.started
        return Completion(self.text.text, answer, reason, self.prompt_tokens, seconds)
