"""The Chinese rows that ship with heedful.

Nothing enters; `rows()` leaves the rows in their final order and `text()` the content of zh.json.
`python -m heedful.data.builtin.zh_rows` rewrites zh.json beside this file, byte for byte.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from heedful.data.builtin import zh_computed, zh_written

PATH = Path(__file__).with_name("zh.json")
SEED = 20240601


def families() -> dict[str, list[dict[str, str]]]:
    """Return the rows by family, before shuffling."""
    items = {**zh_written.families(), **zh_computed.families()}
    return {
        name: [{"instruction": ask, "input": given, "output": answer} for ask, given, answer in family]
        for name, family in items.items()
    }


def rows() -> list[dict[str, str]]:
    """Return all rows, shuffled with a fixed seed."""
    found = [row for family in families().values() for row in family]
    random.Random(SEED).shuffle(found)
    return found


def text() -> str:
    """Return the content of zh.json, a JSON array with one row per line."""
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows()) + "\n]\n"


if __name__ == "__main__":
    PATH.write_bytes(text().encode("utf-8"))
