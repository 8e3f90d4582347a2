"""One row of any known format -> the messages of a conversation, or the one reason why it cannot be.

The format is the one that is set, or the one that the first rows are of. What a row holds besides the format's fields
is kept with it and not read.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import PurePath

from heedful.data.checks import FIELD, read_checks
from heedful.data.fields import EMPTY, FORMATS, Fields, Format, refuse_unread, unread_of_turns
from heedful.data.readers import RawRow
from heedful.data.turns import BadRow, check_turns, described
from heedful.errors import DataError, did_you_mean, listed
from heedful.records import Conversation, Message, Place

Column = tuple[str, str | None]  # its name, and the field that is read of it
MOST_SKIPPED = 0.05  # of the rows


@dataclass(frozen=True)
class FormatChoice:
    """The format in which a file's rows are read, and why."""

    name: str
    why: str
    columns: Mapping[str, str]  # field -> the column that holds it
    detected: bool = True  # and not set

    @property
    def fields(self) -> tuple[str, ...]:
        return FORMATS[self.name].fields


def detect(rows: Iterable[tuple[Fields, Place]], strays: float) -> tuple[str, str]:
    """Name the format of the first rows and say why; raise DataError for none, or if more than the share `strays` are
    of others."""
    first: dict[str, Place] = {}
    count: Counter[str] = Counter()
    columns: dict[str, None] = {}
    for fields, place in rows:
        columns.update(dict.fromkeys(fields))
        if name := _format_of(fields):
            first.setdefault(name, place)
            count[name] += 1
    name, most = max(count.items(), key=lambda item: item[1], default=("", 0))
    if count.total() - most > strays * count.total():
        where = " and ".join(f"{name} at {place}" for name, place in first.items())
        fix = "Keep one format in a file, or name it with --format and leave the others out with --on-bad-row skip."
        raise DataError(f"The rows are of different formats: {where}.", fix)
    if name:
        have = "each row has" if len(first) == 1 else "most rows have"
        return name, f"{have} {listed(_needed(FORMATS[name], columns))}"
    return _nearest_format(columns)


def choose(rows: Iterable[RawRow], wanted: str, columns: Mapping[str, str], on_bad_row: str = "error") -> FormatChoice:
    """Choose the rows' format: the one that is set, else that of the first thousand (most of them, to skip bad rows).

    Raise DataError for a column in `columns` that no row has.
    """
    usable = ((row.value, row.place) for row in rows if isinstance(row.value, dict) and not row.problem)
    seen = list(islice(usable, 1000))
    _refuse_unknown_fields(columns, FORMATS if wanted == "auto" else (wanted,))
    _refuse_absent_columns(columns, (fields for fields, _ in chain(seen, usable)))
    if wanted != "auto":
        return FormatChoice(wanted, "it is set by data.format", columns, detected=False)
    if not seen:  # every row is bad, each for a reason of its own
        return FormatChoice("alpaca", "no row could be read", columns)
    strays = MOST_SKIPPED if on_bad_row == "skip" else 0.0
    name, why = detect(((renamed(fields, columns), place) for fields, place in seen), strays)
    _refuse_unknown_fields(columns, (name,))
    return FormatChoice(name, why, columns)


def to_conversation(row: RawRow, choice: FormatChoice) -> Conversation:
    """Read one row; raise BadRow, with the row's place, if it is not a whole conversation of the format."""
    try:
        messages = _read(row, choice)
        check_turns(messages)
        checks = read_checks(row.value.get(choice.columns.get(FIELD, FIELD)))
    except BadRow as bad:
        raise bad.at(row.place) from None
    return Conversation(name_of(row.place.file, row.place.row), tuple(messages), row.place, row.value, checks)


def renamed(row: Fields, columns: Mapping[str, str]) -> Fields:
    """Return a row's values under the format's names. A mapped column is not read under its own name too."""
    if not columns:
        return row
    taken = set(columns.values()) | set(columns)
    rest = {key: value for key, value in row.items() if key not in taken}
    return rest | {field: row[column] for field, column in columns.items() if column in row}


def columns_in(row: Fields, choice: FormatChoice) -> Iterator[Column]:
    """Name the columns of a row and the field that is read of each; what else its turns hold: messages[].name."""
    form, fields = FORMATS[choice.name], renamed(row, choice.columns)
    read = [(choice.columns.get(field, field), field) for field in form.fields_in(fields)]
    yield from read
    columns = [column for column, _ in read]
    yield from ((column, None) for column in row if column not in columns)
    yield from ((f"{choice.columns.get(field, field)}[].{key}", None) for field, key in unread_of_turns(fields, form))


def columns_read(present: Collection[Column], choice: FormatChoice) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the columns that are read, by field, and those that are not."""
    columns = {field: column for column, field in present}
    used = {field: columns[field] for field in choice.fields if field in columns}
    return used, tuple(column for column, field in present if field is None)


def columns_told(name: str, used: Iterable[str], not_read: Collection[str]) -> str:
    """Say in a line how the rows are read."""
    rest = f"; not read: {listed(not_read)}" if not_read else ""
    return f"The rows are of the format {name}. Read: {listed(used)}{rest}."


def name_of(file: str, row: int) -> str:
    """Return the id of the conversation that a row becomes."""
    return f"{_file_name(file)}:{row}"


@cache
def _file_name(file: str) -> str:
    return PurePath(file).name


def _read(row: RawRow, choice: FormatChoice) -> list[Message]:
    if row.problem:
        raise BadRow(row.problem, reason="not valid JSON or CSV")
    if not isinstance(row.value, dict):
        raise BadRow(f"the row is {described(row.value)}, not an object", "A row looks like {...}.", "not an object")
    form, fields = FORMATS[choice.name], renamed(row.value, choice.columns)
    if not form.fits(fields):
        raise _missing(form, fields, choice)
    refuse_unread(fields, form)
    return form.read(fields)


def _missing(form: Format, fields: Fields, choice: FormatChoice) -> BadRow:
    """Say which field a row lacks, and which of its columns may be meant."""
    other = _format_of(fields)
    if other and other != choice.name:
        fix = "Keep one format in a file." if choice.detected else "Check data.format."
        return BadRow(f"the row is of the format {other}, not {choice.name}", fix, "another format")
    meant = {
        names[0]: _meant(form, at, fields)
        for at, names in enumerate(form.needs)
        if not any(name in fields for name in names)
    }
    lacks, near = next(iter(meant.items()))
    has = f'the row has "{near}"; did you mean "{lacks}"?' if near else f"the row has {listed(fields)}"
    fix = _renaming(meant | _optional(form, fields), choice)
    return BadRow(f'field "{lacks}" is missing ({has})', fix, f'field "{lacks}" is missing')


def _renaming(meant: Mapping[str, str | None], choice: FormatChoice) -> str:
    """Say how fields are found in columns of other names: renamed, or named all at once beside those named before."""
    columns = {field: column or "COLUMN" for field, column in {**choice.columns, **meant}.items()}
    several = len(meant) > 1
    fix = f"Rename the column{'s' * several}"
    if any(column != column.strip() or "," in column for column in columns.values()):  # as --columns cannot name it
        return f"{fix}."
    pairs = ",".join(f"{field}={column}" for field, column in columns.items())
    return f"{fix}, or name {'them' if several else 'it'} with --columns {shlex.quote(pairs)}."


def _meant(form: Format, at: int, fields: Fields) -> str | None:
    """Find the column that may hold what a row lacks: named as in this format, as in another, or nearly."""
    kind = list if len(form.needs) == 1 else str
    free = {_plain(key): key for key in _telling(fields) if isinstance(fields[key], kind)}
    others = [name for other in FORMATS.values() if len(other.needs) == len(form.needs) for name in other.needs[at]]
    near = difflib.get_close_matches(form.needs[at][0], free, n=1, cutoff=0.6)
    return next((free[name] for name in (*form.needs[at], *others, *near) if name in free), None)


def _optional(form: Format, fields: Fields) -> dict[str, str]:
    """Find columns named as optional fields but for case and outer white space, and of the kind that is read there."""
    kinds = {name: list | None if name == "history" else str | None for name in form.may if name not in fields}
    return {_plain(key): key for key, value in fields.items() if isinstance(value, kinds.get(_plain(key), ()))}


def _plain(name: str) -> str:
    return name.strip().lower()


def _telling(columns: Iterable[str]) -> list[str]:
    """Leave out columns whose names are like a field's and hold something else: "message_id", "system_prompt"."""
    other = re.compile(r"system|meta|(_id|Id)$")
    return [column for column in columns if not other.search(column)]


def _format_of(fields: Fields) -> str | None:
    """Name the first format all of whose fields hold something: tables that were joined have empty ones of others."""
    held = {field: value for field, value in fields.items() if value not in EMPTY}
    return next((name for name, form in FORMATS.items() if form.fits(held)), None)


def _nearest_format(columns: Iterable[str]) -> tuple[str, str]:
    """Take the format with most fields among the columns, so that the first row can say what it lacks."""
    columns = list(columns)
    telling = [*map(_plain, _telling(columns))]

    def likeness(name: str) -> float:
        fields = FORMATS[name].fields
        named = sum(field in telling for field in fields)
        return named + 0.5 * sum(bool(difflib.get_close_matches(f, telling, 1, 0.75)) for f in fields) / len(fields)

    best = max(FORMATS, key=lambda name: (likeness(name), name == "alpaca"))
    if not likeness(best):
        known = "; ".join(f"{name}: {listed(names[0] for names in form.needs)}" for name, form in FORMATS.items())
        fix = f"Name the columns, as in --columns instruction=COLUMN,output=COLUMN. Known are {known}."
        raise DataError(f"The rows are of no known format: they have {listed(columns)}.", fix)
    return best, "its fields are nearest to the row's"


def _refuse_unknown_fields(columns: Mapping[str, str], forms: Iterable[str]) -> None:
    """Raise DataError if a column is given for what none of the formats reads."""
    fields = {field for name in forms for field in FORMATS[name].fields}
    for field in (field for field in columns if field not in fields):
        hint = did_you_mean(field, fields) or f"The fields are {listed(sorted(fields))}."
        raise DataError(f'data.columns names "{field}", which is not a field of the format.', hint)


def _refuse_absent_columns(columns: Mapping[str, str], rows: Iterable[Fields]) -> None:
    """Raise DataError for a column that no row has; rows are looked at until all are found."""
    present: set[str] = set()
    for row in rows:
        present.update(row)
        if present.issuperset(columns.values()):
            return
    for field, column in columns.items():
        if present and column not in present:
            hint = did_you_mean(column, present) or f"The columns are {listed(sorted(present))}."
            raise DataError(f'data.columns takes {field} from "{column}", but no row has that column.', hint)


def _needed(form: Format, columns: Iterable[str]) -> list[str]:
    present = set(columns)
    return [next(name for name in names if name in present) for names in form.needs]
