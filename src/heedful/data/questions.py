"""Conversation -> what is asked in it, which decides what is a duplicate and what leaks.

A system text that few rows share is a document that is asked about, and part of the question. One that many rows share,
or all, is a setting: it would make all questions look alike, and stays out.
"""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from heedful.records import Conversation
from heedful.store import Items, Writer

FEW = 20  # rows
END = b"\xff"  # between system and question: no byte of UTF-8
BETWEEN = " | "  # texts, and nothing that normalising removes


class Questions:
    """Writes what is asked in each conversation into a folder, and reads it again once all are known."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._writer, self._systems = folder, Writer(folder, "questions"), array("q")

    def __enter__(self) -> Questions:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._writer.__exit__(kind, error, trace)

    def append(self, conversation: Conversation) -> None:
        turns = conversation.messages
        system = turns[0].content.encode() if turns[0].role == "system" else b""
        texts = (text for turn in turns if turn.role == "user" for text in (turn.content, turn.input))
        self._writer.append(system + END + BETWEEN.join(text for text in texts if text).encode())
        self._systems.append(hash(system))

    def items(self) -> Items[str]:
        """Open what was written: a text for each conversation."""
        systems, rows = np.unique(np.frombuffer(self._systems, np.int64), return_counts=True)
        settings = set(systems[(rows > FEW) | (rows == len(self._systems))].tolist())

        def read(item: bytes) -> str:
            system, _, question = item.partition(END)
            asked_about = system and hash(system) not in settings
            return (system + BETWEEN.encode() + question if asked_about else question).decode()

        return Items(self._folder, "questions", read)
