"""Conversations as token ids by the stretches of their shapes: a row costs the tokens of its own texts, once.

Every border between stretches is one at which the tokenizer cuts by itself, so the ids are those of the whole text and
begin with those of each prompt. What has no such shape, or a text that begins with white space or holds a special
token's name, is left to the encoding piece by piece. The first conversations of each shape are encoded both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from heedful.encode.borders import Borders
from heedful.encode.shape import Roles, Stretch, roles_of
from heedful.encode.template import MOST_SHAPES, SHAPE_CHECKS, Template
from heedful.records import Message

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]
Encoded = tuple[Ids, Flags]
Messages = Sequence[Message]
Known = tuple[tuple[Stretch, list[int]], ...]  # stretches with the ids of those that are always the same


class Stretches:
    """What is known of the shapes met so far; `without_shapes` is the encoding that needs no shape."""

    def __init__(self, template: Template, without_shapes: Callable[[Messages], Encoded]) -> None:
        self._template, self._without_shapes = template, without_shapes
        self._borders = Borders(template.tokenizer, template.special)
        self._known: dict[Roles, Known | None] = {}
        self._checks: dict[Roles, int] = {}

    def encode(self, conversations: Sequence[Messages]) -> list[Encoded | None]:
        """Encode what can be encoded so, and give None for the rest."""
        if not self._borders.known:
            return [None] * len(conversations)
        plans = [self._plan(messages) for messages in conversations]
        texts = [text for plan in plans if plan for text in plan[1]]
        found = iter(self._call(texts))
        rows = [_joined(plan[0], found) if plan else None for plan in plans]
        for number, row in enumerate(rows):
            if row is not None and not self._holds(conversations[number], row):
                rows[number] = None
        return rows

    def _plan(self, messages: Messages) -> tuple[Known, list[str]] | None:
        """Return a conversation's stretches, and the texts that must be tokenised for it."""
        roles = roles_of(messages)
        if roles not in self._known and len(self._known) < MOST_SHAPES:
            self._known[roles] = self._stretches_of(messages)
        known = self._known.get(roles)
        texts = self._template.plain_texts(messages) if known else None
        if known is None or texts is None:
            return None
        wanted = []
        for stretch, _ in known:
            if stretch.slot is not None:
                text = texts[stretch.slot]
                if stretch.after_line and (not text or text[0].isspace()):
                    return None
                wanted.append(text + stretch.fixed)
        return known, wanted

    def _stretches_of(self, messages: Messages) -> Known | None:
        shape = self._template.shape(messages)
        stretches = shape.stretches(self._borders) if shape else None
        if stretches is None:
            return None
        fixed = self._call([stretch.fixed if stretch.slot is None else "" for stretch in stretches])
        return tuple(zip(stretches, fixed, strict=True))

    def _holds(self, messages: Messages, row: Encoded) -> bool:
        """Compare the first rows of each shape with what they are without it; forget a shape that does not hold."""
        roles = roles_of(messages)
        checks = self._checks.get(roles, 0)
        if checks < SHAPE_CHECKS:
            self._checks[roles] = checks + 1
            if not all(map(np.array_equal, row, self._without_shapes(messages))):
                self._known[roles] = None
        return self._known[roles] is not None

    def _call(self, texts: list[str]) -> list[list[int]]:
        """Call the tokenizer without the offsets and the copies that nobody needs here."""
        backend = self._template.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = False
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _joined(known: Known, found: Iterator[list[int]]) -> Encoded:
    """Join a row's stretches, of which `found` gives the ids of the next that is not fixed."""
    parts = [fixed if stretch.slot is None else next(found) for stretch, fixed in known]
    flags = np.repeat([stretch.supervised for stretch, _ in known], [len(part) for part in parts])
    return np.array([*chain(*parts)], np.int32), flags
