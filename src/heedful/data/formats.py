"""One row of any known format -> the messages of a conversation, or the one reason why it cannot be.

A format says which fields it reads and how. Nothing here knows templates or tokenizers: an alpaca row's `input` stays
a field of its message. What a row holds besides the fields is kept with it and not read.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import PurePath
from typing import Any

from heedful.data.checks import FIELD, read_checks
from heedful.data.readers import RawRow
from heedful.data.turns import BadRow, check_turns, filled, message, shown, text_of
from heedful.errors import DataError, did_you_mean
from heedful.records import Conversation, Message, Place, Role

Fields = Mapping[str, Any]

OPENAI_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
SHAREGPT_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}


@dataclass(frozen=True)
class Format:
    """How one kind of row is read: each of `needs` lists names of one field, of which the row has one."""

    read: Callable[[Fields], list[Message]]
    needs: tuple[tuple[str, ...], ...]
    may: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return (*(name for names in self.needs for name in names), *self.may, FIELD)

    def fits(self, fields: Fields) -> bool:
        return all(any(name in fields for name in names) for names in self.needs)


@dataclass(frozen=True)
class Choice:
    """The format in which a file's rows are read, and why."""

    name: str
    why: str
    columns: Mapping[str, str]  # field -> the column that holds it

    @property
    def fields(self) -> tuple[str, ...]:
        return FORMATS[self.name].fields


def _alpaca(row: Fields) -> list[Message]:
    messages = _system(row)
    for turn in _sequence(row, "history"):
        if not isinstance(turn, Sequence) or isinstance(turn, str) or len(turn) != 2:
            raise BadRow('a turn of "history" is not a pair', 'Write it as ["question", "answer"].')
        messages += [message("user", turn[0], "history"), message("assistant", turn[1], "history")]
    question = filled(row, "instruction")
    return [*messages, Message("user", question, input=text_of(row, "input")), _answer(row, "output")]


def _dolly(row: Fields) -> list[Message]:
    question = Message("user", filled(row, "instruction"), input=text_of(row, "context"))
    return [question, _answer(row, "response")]


def _question_answer(row: Fields) -> list[Message]:
    return [*_system(row), Message("user", filled(row, "question")), _answer(row, "answer")]


def _prompt_completion(row: Fields) -> list[Message]:
    answer = "completion" if "completion" in row else "response"
    prompt = _openai(row["prompt"], "prompt") if _is_list(row["prompt"]) else [Message("user", filled(row, "prompt"))]
    last = _openai(row[answer], answer) if _is_list(row[answer]) else [_answer(row, answer)]
    return [*_system(row), *prompt, *last]


def _messages(row: Fields) -> list[Message]:
    return _openai(row["messages"], "messages")


def _sharegpt(row: Fields) -> list[Message]:
    return _system(row) + _turns(row["conversations"], "conversations", "from", "value", SHAREGPT_ROLES)


FORMATS: dict[str, Format] = {
    "messages": Format(_messages, (("messages",),)),
    "sharegpt": Format(_sharegpt, (("conversations",),), ("system",)),
    "prompt_completion": Format(_prompt_completion, (("prompt",), ("completion", "response")), ("system",)),
    "question_answer": Format(_question_answer, (("question",), ("answer",)), ("system",)),
    "alpaca": Format(_alpaca, (("instruction",), ("output",)), ("input", "system", "history")),
    "dolly": Format(_dolly, (("instruction",), ("response",)), ("context",)),
}


def detect(rows: Iterable[tuple[Fields, Place]]) -> tuple[str, str]:
    """Name the format of the first rows and say why; raise DataError for two formats or none."""
    first: dict[str, Place] = {}
    columns: dict[str, None] = {}
    for fields, place in rows:
        columns.update(dict.fromkeys(fields))
        if name := _format_of(fields):
            first.setdefault(name, place)
    if len(first) > 1:
        where = " and ".join(f"{name} at {place}" for name, place in first.items())
        raise DataError(f"The rows are of different formats: {where}.", "Keep one format in a file.")
    if first:
        (name,) = first
        return name, f"each row has {_listed(_needed(FORMATS[name], columns))}"
    return _nearest_format(columns)


def choose(rows: Iterable[RawRow], wanted: str, columns: Mapping[str, str]) -> Choice:
    """Decide how the rows are read, by the settings or by looking at the first thousand."""
    usable = ((row.value, row.place) for row in rows if isinstance(row.value, dict) and not row.problem)
    seen = list(islice(usable, 1000))
    _check_columns(wanted, columns, {key for fields, _ in seen for key in fields})
    if wanted != "auto":
        return Choice(wanted, "it is set by data.format", columns)
    if not seen:  # every row is bad, each for a reason of its own
        return Choice("alpaca", "no row could be read", columns)
    return Choice(*detect((_renamed(fields, columns), place) for fields, place in seen), columns)


def to_conversation(row: RawRow, choice: Choice) -> Conversation:
    """Read one row; raise BadRow, with the row's place, if it is not a whole conversation of the format."""
    try:
        messages = _read(row, choice)
        check_turns(messages)
        checks = read_checks(row.value.get(choice.columns.get(FIELD, FIELD)))
    except BadRow as bad:
        raise bad.at(row.place) from None
    return Conversation(name_of(row.place.file, row.place.row), tuple(messages), row.place, row.value, checks)


def name_of(file: str, row: int) -> str:
    """Give the id of the conversation that a row becomes."""
    return f"{_file_name(file)}:{row}"


@cache
def _file_name(file: str) -> str:
    return PurePath(file).name


def _read(row: RawRow, choice: Choice) -> list[Message]:
    if row.problem:
        raise BadRow(row.problem, reason="not valid JSON or CSV")
    if not isinstance(row.value, dict):
        raise BadRow(f"the row is {shown(row.value)}, not an object", "A row looks like {...}.", "not an object")
    form, fields = FORMATS[choice.name], _renamed(row.value, choice.columns)
    if not form.fits(fields):
        raise _missing(form, fields, choice)
    return form.read(fields)


def _missing(form: Format, fields: Fields, choice: Choice) -> BadRow:
    """Say which field a row lacks, and which of its columns may be meant."""
    other = _format_of(fields)
    if other and other != choice.name:
        fix = "Keep one format in a file." if choice.why != "it is set by data.format" else "Check data.format."
        return BadRow(f"the row is of the format {other}, not {choice.name}", fix, "another format")
    names = next(names for names in form.needs if not any(name in fields for name in names))
    known = set(form.fields)
    near = difflib.get_close_matches(names[0], [key for key in fields if key not in known], n=1, cutoff=0.6)
    has = f'the row has "{near[0]}"; did you mean "{names[0]}"?' if near else f"the row has {_listed(fields)}"
    fix = f"Rename the column, or name it with --columns {names[0]}={near[0] if near else 'COLUMN'}."
    return BadRow(f'field "{names[0]}" is missing ({has})', fix, f'field "{names[0]}" is missing')


def _format_of(fields: Fields) -> str | None:
    return next((name for name, form in FORMATS.items() if form.fits(fields)), None)


def _nearest_format(columns: Iterable[str]) -> tuple[str, str]:
    """Take the format with most fields among the columns, so that the first row can say what it lacks."""
    columns = list(columns)

    def likeness(name: str) -> float:
        fields = FORMATS[name].fields
        named = sum(field in columns for field in fields)
        return named + 0.5 * sum(bool(difflib.get_close_matches(f, columns, 1, 0.75)) for f in fields) / len(fields)

    best = max(FORMATS, key=lambda name: (likeness(name), name == "alpaca"))
    if not likeness(best):
        known = "; ".join(f"{name}: {_listed(names[0] for names in form.needs)}" for name, form in FORMATS.items())
        fix = f"Name the columns, as in --columns instruction=COLUMN,output=COLUMN. Known are {known}."
        raise DataError(f"The rows are of no known format: they have {_listed(columns)}.", fix)
    return best, "its fields are nearest to the row's"


def _check_columns(wanted: str, columns: Mapping[str, str], present: set[str]) -> None:
    """Raise DataError for a field that no format reads, or a column that no row has."""
    forms = FORMATS.values() if wanted == "auto" else [FORMATS[wanted]]
    fields = {field for form in forms for field in form.fields}
    for field, column in columns.items():
        if field not in fields:
            hint = did_you_mean(field, fields) or f"The fields are {_listed(sorted(fields))}."
            raise DataError(f'data.columns names "{field}", which is no field of the format.', hint)
        if present and column not in present:
            hint = did_you_mean(column, present) or f"The columns are {_listed(sorted(present))}."
            raise DataError(f'data.columns takes {field} from "{column}", but no row has that column.', hint)


def _renamed(row: Fields, columns: Mapping[str, str]) -> Fields:
    """Give a row's values under the format's names. A mapped column is not read under its own name too."""
    if not columns:
        return row
    taken = set(columns.values()) | set(columns)
    rest = {key: value for key, value in row.items() if key not in taken}
    return rest | {field: row[column] for field, column in columns.items() if column in row}


def _needed(form: Format, columns: Iterable[str]) -> list[str]:
    present = set(columns)
    return [next(name for name in names if name in present) for names in form.needs]


def _listed(names: Iterable[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    head = quoted if len(quoted) <= 12 else [*quoted[:12], f"{len(quoted) - 12} more"]
    return " and ".join(filter(None, [", ".join(head[:-1]), *head[-1:]])) or "no columns"


def _system(row: Fields) -> list[Message]:
    """Give the system message of a row that has one; an empty one is none."""
    text = text_of(row, "system")
    return [Message("system", text)] if text.strip() else []


def _answer(row: Fields, field: str) -> Message:
    return Message("assistant", filled(row, field))


def _openai(value: Any, field: str) -> list[Message]:
    return _turns(value, field, "role", "content", OPENAI_ROLES)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _sequence(row: Fields, field: str) -> Sequence[Any]:
    value = row.get(field)
    if value is not None and not _is_list(value):
        raise BadRow(f'field "{field}" is {shown(value)}, not a list', "", f'field "{field}" is not a list')
    return value or ()


def _turns(value: Any, field: str, role_key: str, text_key: str, roles: Mapping[str, Role]) -> list[Message]:
    """Read a list of objects with a role and a text each."""
    if not _is_list(value) or not value:
        raise BadRow(f'field "{field}" is {shown(value)}, not a list of messages', "", f'field "{field}" is no list')
    found = []
    for number, turn in enumerate(value, 1):
        where = f"{field}, message {number}"
        if not isinstance(turn, dict):
            raise BadRow(f"{where} is {shown(turn)}, not an object", "", "message is not an object")
        absent = [key for key in (role_key, text_key) if key not in turn]
        if absent:
            problem = f'{where} has no "{absent[0]}" (it has {_listed(turn)})'
            raise BadRow(problem, did_you_mean(absent[0], turn), f'message without "{absent[0]}"')
        role = roles.get(turn[role_key]) if isinstance(turn[role_key], str) else None
        if role is None:
            known = f"Known are {_listed(roles)}."
            raise BadRow(f"{where} has the unknown role {shown(turn[role_key])}", known, "unknown role")
        if role == "system" and turn[text_key] in ("", None):
            continue  # many exports write an empty one into each row; it says nothing
        found.append(message(role, turn[text_key], where, turn.get("weight")))
    return found
