"""Rows of any format -> what is asked in them, in the file's order; their answers may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from heedful.address import redacted
from heedful.config import DataConfig
from heedful.data.fields import EMPTY, FORMATS, Fields, Format, dialect_of
from heedful.data.formats import FormatChoice, choose, columns_in, columns_read, columns_told, renamed, to_conversation
from heedful.data.readers import RawRow
from heedful.data.sources import read
from heedful.data.turns import BadRow
from heedful.errors import DataError
from heedful.records import Message
from heedful.reporter import SILENT, Reporter

ANSWER = "-"  # stands for a missing answer while a row's format is found and the row is checked
AskedRow = tuple[Mapping[str, Any], tuple[Message, ...]]  # as it was read, and the messages to be answered


def prompts(config: DataConfig, reporter: Reporter = SILENT) -> list[AskedRow]:
    """Return every row as it was read, and the messages up to the one that should be answered.

    Raise DataError for what cannot be read.
    """
    rows = [row for source in read(config.path, reporter) for row in source.rows]
    if not rows:
        raise DataError(f"{redacted(config.path)} holds no rows.", "Each row should hold an instruction.")
    whole = _with_answers(rows, config)
    choice = choose(whole, config.format, config.columns, config.on_bad_row)
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


def _with_answers(rows: list[RawRow], config: DataConfig) -> list[RawRow]:
    """Put an answer where a row has none, so that it is read as any other: in the format that all rows show."""
    columns: dict[str, Any] = {}
    for row in (row.value for row in rows if isinstance(row.value, dict)):
        columns |= {column: columns.get(column) or value for column, value in row.items()}
    common = _form_of(renamed(columns, config.columns), config.format)
    return [replace(row, value=_answered(row.value, common, config)) for row in rows]


def _form_of(fields: Fields, wanted: str) -> Format | None:
    """Find a format whose question is among the fields, not empty if possible: one of turns, or the one that has most
    of them."""

    def likeness(form: Format) -> tuple[bool, bool, int]:
        asked = any(fields.get(name) for name in form.needs[0])
        return asked, len(form.needs) == 1, sum(map(fields.__contains__, form.fields))

    forms = FORMATS.values() if wanted == "auto" else [FORMATS[wanted]]
    return max((form for form in forms if _asks(form, fields)), key=likeness, default=None)


def _asks(form: Format, fields: Fields) -> bool:
    return any(name in fields for name in form.needs[0])


def _answered(row: Any, common: Format | None, config: DataConfig) -> Any:
    """Return a row with an answer, in the common format if it asks in that one."""
    fields = renamed(row, config.columns) if isinstance(row, dict) else {}
    form = common if common and _asks(common, fields) else _form_of(fields, config.format)
    if not form:
        return row
    names = form.needs[-1]  # of the answer, or of the turns that it ends
    field = next((name for name in names if name in fields), names[0])
    given = fields.get(field)
    answered = _ended(given, field) if len(form.needs) == 1 else ANSWER if given in EMPTY else given
    return {**row, config.columns.get(field, field): answered}


def _ended(turns: Any, field: str) -> Any:
    """Add an answer to turns that end in a question."""
    last = turns[-1] if isinstance(turns, list) and turns else None
    if not isinstance(last, dict):
        return turns
    dialect = dialect_of(last, field)
    asks = dialect.roles.get(str(last.get(dialect.role))) in ("user", "tool")
    return [*turns, {dialect.role: "assistant", dialect.text: ANSWER}] if asks else turns
