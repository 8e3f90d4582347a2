"""The shape of conversations: rendered once for all that have the same roles, then filled with their texts.

A template that never looks at a message's text (`encode/opaque.py`) is rendered with private characters in the texts'
places; what stands between them is the same for every conversation of these roles. Where the tokenizer's borders are
known (`encode/borders.py`), what stands between is tokenised once too, and a row costs the tokens of its own texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from heedful.encode.borders import Borders, ends_line
from heedful.records import Message, Segment

PLACE = 0x10E000  # in a private plane: stands for a message's text while a shape is rendered
MOST_MESSAGES = 0x1000

Roles = tuple[tuple[str, bool], ...]  # of each message: its role, and whether it is kept from being learned
Parts = tuple[str | int, ...]  # texts, and the numbers of the messages whose texts stand between


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is tokenised at once: a message's text with the words behind it, or words that are always the same."""

    supervised: bool
    fixed: str = ""
    slot: int | None = None
    after_line: bool = False  # the border before the slot is one only if the text begins with no white space


@dataclass(frozen=True, slots=True)
class Shape:
    """Pieces (prompt, answer, prompt, ...) as texts and the numbers of messages, with whether each is learned."""

    pieces: tuple[tuple[Parts, bool], ...]

    def fill(self, texts: Sequence[str]) -> list[tuple[str, bool]]:
        """Put a conversation's texts in."""
        return [
            ("".join([part if isinstance(part, str) else texts[part] for part in parts]), supervised)
            for parts, supervised in self.pieces
        ]

    def stretches(self, borders: Borders) -> tuple[Stretch, ...] | None:
        """Cut the shape at borders, or give None if a message's text does not begin at one."""
        found: list[Stretch] = []
        for parts, supervised in self.pieces:
            for part in parts:
                if isinstance(part, int):
                    before = found[-1].fixed if found else ""
                    if not ends_line(before) and not borders.ends_special(before):
                        return None
                    found.append(Stretch(supervised, "", part, not borders.ends_special(before)))
                    continue
                tail = borders.before_special(part) if found and found[-1].slot is not None else 0
                if tail:
                    last = found.pop()
                    if last.supervised != supervised:
                        return None
                    found.append(Stretch(supervised, part[:tail], last.slot, last.after_line))
                if part[tail:]:
                    if found and found[-1].slot is None and not borders.ends_special(found[-1].fixed):
                        return None
                    found.append(Stretch(supervised, part[tail:]))
        return tuple(found)


def roles_of(messages: Sequence[Message]) -> Roles:
    return tuple((message.role, message.supervised is False) for message in messages)


def placeholders(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with private characters for their texts."""
    return [Message(message.role, chr(PLACE + i), message.supervised) for i, message in enumerate(messages)]


def shape_of(pieces: Sequence[Sequence[Segment]]) -> Shape | None:
    """Read a shape off rendered placeholders; None unless every answer's piece begins with its text."""
    found = []
    for number, piece in enumerate(pieces):
        text = "".join(segment.text for segment in piece)
        cut = re.split(f"([{chr(PLACE)}-{chr(PLACE + MOST_MESSAGES - 1)}])", text)
        parts: Parts = tuple(ord(c) - PLACE if i % 2 else c for i, c in enumerate(cut) if c)
        if number % 2 and not (parts and isinstance(parts[0], int)):
            return None
        found.append((parts, bool(piece) and piece[0].supervised))
    return Shape(tuple(found))
