"""The rows of one file, read once and laid down in the cache, from where each can be had again by its number.

Memory holds where each row ends and on which line it stood. A row's problem is kept in its place.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heedful.data.json_text import TOO_DEEP
from heedful.data.readers import RawRow
from heedful.records import Place
from heedful.system.items import Items, Writer, numbers
from heedful.system.store import kept

VERSION = 4  # goes up when the same file would be read otherwise
FAULT = b"!"  # no JSON value begins so


class Spool:
    """Rows on disk; `name` is what their places call the file, `content` tells its content and reading from others."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.content = name, folder.name
        self._items, self._lines = Items(folder, "rows", bytes), numbers(folder / "lines.npy")

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, at: int) -> RawRow:
        i = range(len(self))[at]
        return self._row(i, self._items[i])

    def __iter__(self) -> Iterator[RawRow]:
        for i, item in enumerate(self._items):
            yield self._row(i, item)

    def _row(self, i: int, item: bytes) -> RawRow:
        place = Place(self.name, i + 1, int(self._lines[i]) or None)
        if item.startswith(FAULT):
            return RawRow(None, place, item[len(FAULT) :].decode())
        return RawRow(json.loads(item.decode()), place)


def spool(name: str, key: Mapping[str, Any], rows: Callable[[], Iterator[RawRow]]) -> Spool:
    """Return a file's rows, from the cache if a file of the same content was read before."""

    def write(folder: Path) -> dict[str, Any]:
        lines = array("q")
        with Writer(folder, "rows") as out:
            for row in rows():
                out.append(_packed(row))
                lines.append(row.place.line or 0)
        np.save(folder / "lines.npy", np.frombuffer(lines, np.int64))
        return {"rows": len(lines)}

    return Spool(kept("rows", {**key, "format": VERSION}, write).folder, name)


def _packed(row: RawRow) -> bytes:
    if row.problem:
        return FAULT + row.problem.encode("utf-8", "backslashreplace")
    try:
        return json.dumps(row.value, separators=(",", ":")).encode()
    except RecursionError:
        return FAULT + TOO_DEEP.encode()
