"""A conversation that is too long, made shorter: the prompt's texts first, the answer last, the stop token never.

What is cut is whole exchanges, or text inside a message, so the template, its markers and the stop token stay whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from heedful.encode.stretches import Encoded, Flags, Ids
from heedful.records import Message

Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Truncated:
    """A conversation that was cut, the fields that were, and what it is encoded to."""

    messages: Messages
    fields: frozenset[str]
    ids: Ids
    flags: Flags


class _Text(NamedTuple):
    """Where a text stands in a conversation, and what people call it."""

    message: int
    field: str
    name: str


@dataclass(frozen=True)
class Truncator:
    """Cuts a conversation to `limit` tokens. To encode it costs the more the longer it is, so few cuts are tried."""

    limit: int
    encode: Callable[[Messages], Encoded]
    tokenizer: PreTrainedTokenizerBase
    tokens: dict[str, Sequence[tuple[int, int]]] = field(default_factory=dict, init=False)  # where they lie in a text

    def cut(self, whole: Truncated) -> Truncated | None:
        """Make a conversation fit, or give None where it cannot.

        In order: the oldest exchanges, the input, the user's text, a tool's, the system's, then the last answer.
        """
        shorter = self._of_fewer_turns(whole)
        return shorter if self._fits(shorter) else self._of_less_text(shorter)

    def _fits(self, shorter: Truncated) -> bool:
        return len(shorter.ids) <= self.limit

    def _encoded(self, messages: Messages, fields: frozenset[str]) -> Truncated:
        return Truncated(messages, fields, *self.encode(messages))

    def _of_fewer_turns(self, whole: Truncated) -> Truncated:
        """Leave out as few of the oldest exchanges as need be, or all but the last.

        An exchange goes whole, from a user's message to the next, so that no tool's result stands without its question.
        """
        messages = whole.messages
        questions = [i for i, message in enumerate(messages) if message.role == "user"]
        if len(questions) < 2:
            return whole
        tried: dict[int, Truncated] = {}

        def fits(left_out: int) -> bool:
            rest = (*messages[: questions[0]], *messages[questions[left_out] :])
            tried[left_out] = self._encoded(rest, whole.fields | {"oldest turns"})
            return self._fits(tried[left_out])

        letters = [0, *accumulate(len(message.content) + len(message.input) for message in messages)]
        excess = letters[-1] * (len(whole.ids) - self.limit) / len(whole.ids)
        guess = bisect_left([letters[question] - letters[questions[0]] for question in questions], excess)
        most = len(questions) - 1
        return tried[min(most, fewest(most, guess, fits))]

    def _of_less_text(self, whole: Truncated) -> Truncated | None:
        """Cut texts in their order, all but a token of each before the next, and of the last no more than need be."""
        texts = _texts(whole.messages)
        tried = {0: whole}

        def fits(count: int) -> bool:
            messages, fields = whole.messages, whole.fields
            for text in texts[:count]:
                messages, fields = self._without_tail(messages, fields, text, len(whole.ids))
            tried[count] = self._encoded(messages, fields)
            return self._fits(tried[count])

        last = fewest(len(texts), 1, fits)
        if last > len(texts):
            return None
        shorter = tried[last - 1]
        while not self._fits(shorter):
            excess = len(shorter.ids) - self.limit
            messages, fields = self._without_tail(shorter.messages, shorter.fields, texts[last - 1], excess)
            shorter = self._encoded(messages, fields) if messages != shorter.messages else tried[last]
        return shorter

    def _without_tail(
        self, messages: Messages, fields: frozenset[str], place: _Text, excess: int
    ) -> tuple[Messages, frozenset[str]]:
        """Cut at least one and about `excess` tokens off the end of a text, of which one token at least stays."""
        i, part, name = place
        text: str = getattr(messages[i], part)
        if text not in self.tokens:  # a text is first cut to a token, and then to what fits
            self.tokens[text] = self.tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
            )["offset_mapping"]
        tokens = self.tokens[text]
        keep = max(1, len(tokens) - excess)
        end = next((start for start, _ in tokens[keep:] if start > 0), len(text))  # a character may be several tokens
        shorter = text[:end].rstrip() or text[:end]
        if shorter == text:
            return messages, fields
        shortened = replace(messages[i], input=shorter) if part == "input" else replace(messages[i], content=shorter)
        return (*messages[:i], shortened, *messages[i + 1 :]), fields | {name}


def fewest(most: int, guess: int, fits: Callable[[int], bool]) -> int:
    """Find the least n in 1..`most` with fits(n), or `most` + 1; `fits` is monotone.

    Steps from the guess grow until the border lies between two of them, which is then halved: a guess that is off by n
    costs some 2 log n trials. The last that does not fit was tried, if it is not 0, and so was what is given.
    """
    low, high, step = 0, most + 1, 1
    at = min(max(guess, 1), most)
    while high - low > 1:
        if fits(at):
            high, at = at, at - step
        else:
            low, at = at, at + step
        step *= 2
        if not low < at < high:
            at = (low + high) // 2
    return high


_ORDER = (
    ("user", "input", "input"),
    ("user", "content", "instruction"),
    ("tool", "content", "tool result"),
    ("system", "content", "system"),
    ("assistant", "content", "answer"),
)


def _texts(messages: Messages) -> list[_Text]:
    """List a conversation's texts in the order in which they are cut, of each kind the last one first."""
    return [
        _Text(i, field, name)
        for role, field, name in _ORDER
        for i in reversed(range(len(messages)))
        if messages[i].role == role and getattr(messages[i], field)
    ]
