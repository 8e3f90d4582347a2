"""Turns templates and fields into rows.

Enters: prompt and answer templates with `{0}`, `{1}`, ... and the fields to put there, either from
Python (`weave`) or from a text file of families (`read_families`).
Leaves: rows `{"instruction", "input", "output"}`.

A family in a text file reads

    [capitals]
    ? What is the capital of {0}?
    ? Name the city that governs {0}.
    = The capital of {0} is {1}.
    Peru | Lima

`?` lines are prompts, and row i takes prompt i modulo their number, so that a family does not teach
one wording only. ` >> ` parts a prompt's instruction from its input, `\\n` is a line break.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

Row = dict[str, str]
SIZE = 15  # rows of a computed family, more or less


def fill(template: str, fields: Sequence[object]) -> str:
    """Put the fields in. Not `str.format`: rows hold code and JSON, whose braces must survive."""
    text = re.sub(r"\{(\d)\}", lambda hole: str(fields[int(hole[1])]), template)
    return text.replace("\\n", "\n")


def weave(prompts: Sequence[str], answer: str, table: Iterable[Sequence[object]]) -> list[Row]:
    """One row per entry of the table; the prompts take turns."""
    rows = []
    for turn, fields in enumerate(table):
        instruction, _, context = prompts[turn % len(prompts)].partition(" >> ")
        rows.append(
            {
                "instruction": fill(instruction, fields),
                "input": fill(context, fields),
                "output": fill(answer, fields),
            }
        )
    return rows


def parse_family(block: str) -> tuple[str, list[Row]]:
    """One `[name]` block of a text file -> its name and rows."""
    name, *lines = block.strip().splitlines()
    prompts = [line[2:] for line in lines if line.startswith("? ")]
    answers = [line[2:] for line in lines if line.startswith("= ")]
    table = [line.split(" | ") for line in lines if line and not line.startswith(("? ", "= "))]
    if len(answers) != 1 or not prompts:
        raise ValueError(f"family {name}: one answer template and at least one prompt are needed")
    if len({len(fields) for fields in table}) != 1:
        raise ValueError(f"family {name}: rows differ in their number of fields")
    return name.strip("[] "), weave(prompts, answers[0], table)


def read_families(path: Path) -> dict[str, list[Row]]:
    """All families of one text file, in its order."""
    blocks = re.split(r"(?m)^(?=\[\w+\]$)", path.read_text(encoding="utf-8"))
    return dict(parse_family(block) for block in blocks if block.strip())
