"""Rows of any format -> what is asked in them, in the file's order; their answers may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from heedful.address import redacted
from heedful.config import DataConfig
from heedful.data.fields import FORMATS, TURNS, Format
from heedful.data.formats import FormatChoice, choose, columns_in, columns_read, columns_told, to_conversation
from heedful.data.readers import RawRow
from heedful.data.sources import read
from heedful.data.turns import BadRow
from heedful.errors import DataError
from heedful.records import SILENT, Message, Reporter

ANSWER = "-"  # stands for a missing answer while a row's format is found and the row is checked
WHOLE = ("messages", "conversations")  # what holds questions and answers alike
AskedRow = tuple[Mapping[str, Any], tuple[Message, ...]]  # as it was read, and the messages to be answered


def prompts(config: DataConfig, reporter: Reporter = SILENT) -> list[AskedRow]:
    """Return every row as it was read, and the messages up to the one that should be answered.

    Raises DataError for what cannot be read.
    """
    rows = [row for source in read(config.path, reporter) for row in source.rows]
    if not rows:
        raise DataError(f"{redacted(config.path)} holds no rows.", "Each row should hold an instruction.")
    whole = [replace(row, value=_answered(row.value, config)) for row in rows]
    choice = choose(whole, config.format, config.columns)
    found = list(_asked(rows, whole, choice, config.on_bad_row))
    used, not_read = columns_read(
        dict.fromkeys(column for row, _ in found for column in columns_in(row, choice)), choice
    )
    reporter.say(columns_told(choice.name, used.values(), not_read))
    if len(found) < len(rows):
        reporter.say(f"{len(rows) - len(found)} of {len(rows)} rows cannot be read and are left out.")
    return found


def _asked(rows: list[RawRow], whole: list[RawRow], choice: FormatChoice, on_bad_row: str) -> Iterator[AskedRow]:
    for row, answered in zip(rows, whole, strict=True):
        try:
            yield row.value, to_conversation(answered, choice).prompt
        except BadRow:
            if on_bad_row == "error":
                raise


def _answered(row: Any, config: DataConfig) -> Any:
    """Put an answer where a row has none, so that it is read as any other."""
    if not isinstance(row, dict):
        return row
    named = {config.columns.get(field, field): field for form in FORMATS.values() for field in form.fields}
    present = {named[column]: column for column in row if column in named}
    for field in (field for field in WHOLE if field in present):
        dialect, turns = TURNS[field], row[present[field]]
        last = turns[-1] if isinstance(turns, list) and turns else None
        if isinstance(last, dict) and dialect.roles.get(str(last.get(dialect.role))) in ("user", "tool"):
            return {**row, present[field]: [*turns, {dialect.role: "assistant", dialect.text: ANSWER}]}
    forms = FORMATS.values() if config.format == "auto" else [FORMATS[config.format]]
    fitting = [form for form in forms if len(form.needs) == 2 and any(name in present for name in form.needs[0])]
    if not fitting:
        return row
    form: Format = max(fitting, key=lambda form: sum(field in present for field in form.fields))
    answers = form.needs[1]
    field = next((name for name in answers if name in present), answers[0])
    column = config.columns.get(field, field)
    return row if row.get(column) not in (None, "", []) else {**row, column: ANSWER}
