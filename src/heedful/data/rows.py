"""Conversations that are read from disk where they are asked for: memory holds one number for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from heedful.data.formats import FormatChoice, name_of, to_conversation
from heedful.data.split import Numbers
from heedful.data.spool import Spool
from heedful.records import Conversation


class Rows(Sequence[Conversation]):
    """Some rows of files that were read one after the other, by their number among all of them."""

    def __init__(self, files: Sequence[Spool], choice: FormatChoice, numbers: Numbers) -> None:
        self._files, self._choice, self._numbers = files, choice, numbers
        self._starts = np.cumsum([0, *map(len, files)])

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> Conversation: ...
    @overload
    def __getitem__(self, at: slice) -> Rows: ...
    def __getitem__(self, at: int | slice) -> Conversation | Rows:
        if isinstance(at, slice):
            return Rows(self._files, self._choice, self._numbers[at])
        file, row = self._find(at)
        return to_conversation(self._files[file][row], self._choice)

    def identity(self) -> dict[str, Any]:
        """Return what these conversations depend on: the files, how they are read, and which rows are meant."""
        return {
            "files": [(file.name, file.content) for file in self._files],
            "choice": [self._choice.name, sorted(self._choice.columns.items())],
            "numbers": hashlib.sha256(self._numbers.tobytes()).hexdigest(),
        }

    def name(self, at: int) -> str:
        """Return a conversation's id without reading it."""
        file, row = self._find(at)
        return name_of(self._files[file].name, row + 1)

    def _find(self, at: int) -> tuple[int, int]:
        number = int(self._numbers[at])
        file = int(np.searchsorted(self._starts, number, side="right")) - 1 if len(self._files) > 1 else 0
        return file, number - int(self._starts[file])
