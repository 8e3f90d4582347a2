"""Writes `en.json`, the English instruction data.

Enters: the computed families (`letters`, `sums`, `lists`) and the hand-written ones (`written/*.txt`).
Leaves: `en.json`, the rows of all families in one fixed shuffled order; a second run gives the same bytes.

Run it with `python -m heedful.data.builtin.build`.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path

from heedful.data.builtin import letters, lists, sums
from heedful.data.builtin.templates import Row, read_families

HERE = Path(__file__).parent
SEED = 2024


def all_families() -> dict[str, list[Row]]:
    """Family name -> rows. Each computed family draws from its own seed, so editing one moves no other."""
    computed = {**letters.FAMILIES, **sums.FAMILIES, **lists.FAMILIES}
    families = {name: make(random.Random(name)) for name, make in computed.items()}
    for path in sorted((HERE / "written").glob("*.txt")):
        for name, rows in read_families(path).items():
            if name in families:
                raise ValueError(f"two families are called {name}")
            families[name] = rows
    return families


FAMILIES = all_families()


def rows() -> list[Row]:
    """All rows, families mixed, so that any slice of the file holds a bit of everything."""
    mixed = [row for family in FAMILIES.values() for row in family]
    random.Random(SEED).shuffle(mixed)
    return mixed


def dump(rows: Iterable[Row], path: Path) -> None:
    """Write rows as a JSON array, one row a line, so that a diff shows whole rows."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    dump(rows(), HERE / "en.json")
