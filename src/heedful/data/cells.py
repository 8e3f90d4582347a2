"""A table as text: how its cells are parted, and the names of its columns."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from heedful.data.unpack import Open
from heedful.errors import DataError

NO_NAME = "(no name)"  # what the receipt calls a column without one
TABLES = {"csv": ",", "tsv": "\t"}  # a text table's ending, and what parts its cells as a rule
SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}  # that may part cells, in order of trial


@contextmanager
def table(opened: Open) -> Iterator[TextIO]:
    """Give the text of a table to csv, which takes cells of more than 128 KiB meanwhile."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with io.TextIOWrapper(opened(), encoding="utf-8-sig", newline="") as text:
            yield text
    finally:
        csv.field_size_limit(limit)


def delimiter(opened: Open, usual: str) -> str:
    """Return what parts a table's cells: what does as a rule, unless another sign alone makes several of its header."""
    for sign in sorted(SIGNS, key=lambda sign: sign != usual):
        with table(opened) as text, suppress(csv.Error):
            if len(next((cells for cells in csv.reader(text, delimiter=sign, strict=True) if cells), ())) > 1:
                return sign
    return usual


def column_names(cells: list[str], where: str) -> list[str]:
    """Check the header of a table. Its first column may be without a name: so pandas writes its index."""
    names = [cells[0] or NO_NAME, *cells[1:]] if cells else []
    for number, column in enumerate(names, 1):
        if not column:
            raise DataError(f"{where}: column {number} of the header has no name.", "Give it one.")
    refuse_doubled(names, where)
    return names


def refuse_doubled(names: list[str], where: str) -> None:
    """Raise DataError if two columns have one name."""
    for number, name in enumerate(names):
        if name in names[:number]:
            raise DataError(f'{where}: two columns have the name "{name}".', "Rename one of them.")
