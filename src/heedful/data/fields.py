"""The known formats: which fields a row of each has, and how they become the messages of a conversation.

Nothing here knows templates or tokenizers: an alpaca row's `input` stays a field of its message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from heedful.data.checks import FIELD
from heedful.data.turns import BadRow, described, filled, message, text_of
from heedful.errors import did_you_mean, listed
from heedful.records import Message, Role

Fields = Mapping[str, Any]
ABOUT = ("input", "context")
EMPTY: tuple[Any, ...] = (None, "", [], {})  # these say nothing; False and 0 may say something
CALLS = ("tool_calls", "function_call")  # an answer that is no text
WEIGHTS = ("weight", "train")  # two names of whether an answer is learned


@dataclass(frozen=True)
class Dialect:
    """How a list of turns names each one's role and text, and which roles it knows."""

    role: str
    text: str
    roles: Mapping[str, Role]

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.role, self.text, *WEIGHTS)


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
OPENAI, SHAREGPT = Dialect("role", "content", OPENAI_ROLES), Dialect("from", "value", SHAREGPT_ROLES)
TURNS = {"messages": OPENAI, "conversations": SHAREGPT, "prompt": OPENAI, "completion": OPENAI, "response": OPENAI}


@dataclass(frozen=True)
class Format:
    """How one kind of row is read: each of `needs` lists names of one field; of those in a row the first is read."""

    read: Callable[[Fields], list[Message]]
    needs: tuple[tuple[str, ...], ...]
    may: tuple[str, ...] = ()

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return (*(name for names in self.needs for name in names), *self.may, FIELD)

    def fields_in(self, row: Fields) -> list[str]:
        """Name the fields that are read of a row."""
        needed = [next(filter(row.__contains__, names), "") for names in self.needs]
        return [name for name in (*needed, *self.may, FIELD) if name in row]

    def fits(self, fields: Fields) -> bool:
        return all(any(name in fields for name in names) for names in self.needs)


def _asked(ask: str, answer: str) -> Callable[[Fields], list[Message]]:
    """Read rows of one question and its answer, with what stands around the question in any of them."""

    def read(row: Fields) -> list[Message]:
        messages = _system(row)
        for turn in _sequence(row, "history"):
            if not isinstance(turn, Sequence) or isinstance(turn, str) or len(turn) != 2:
                raise BadRow('a turn of "history" is not a pair', 'Write it as ["question", "answer"].')
            messages += [message("user", turn[0], "history"), message("assistant", turn[1], "history")]
        return [*messages, Message("user", filled(row, ask), input=_about(row)), _answer(row, answer)]

    return read


def _about(row: Fields) -> str:
    """Return the text that a question is about: a row's `input`, which some call `context`."""
    found = {field: text for field in ABOUT if (text := text_of(row, field))}
    if len(found) > 1:
        raise BadRow('fields "input" and "context" both hold text', "Join them, or take one out.")
    return next(iter(found.values()), "")


def _prompt_completion(row: Fields) -> list[Message]:
    answer = "completion" if "completion" in row else "response"
    prompt = _turns(row, "prompt") if _is_list(row["prompt"]) else [Message("user", filled(row, "prompt"))]
    last = _turns(row, answer) if _is_list(row[answer]) else [_answer(row, answer)]
    return [*_after_system(row, "prompt", prompt), *last]


def _of_turns(field: str) -> Callable[[Fields], list[Message]]:
    """Read rows of which one field holds the whole conversation."""
    return lambda row: _after_system(row, field, _turns(row, field))


AROUND = (*ABOUT, "system", "history")  # what a question may stand among
FORMATS: dict[str, Format] = {
    "messages": Format(_of_turns("messages"), (("messages",),), ("system",)),
    "sharegpt": Format(_of_turns("conversations"), (("conversations",),), ("system",)),
    "prompt_completion": Format(_prompt_completion, (("prompt",), ("completion", "response")), ("system",)),
    "question_answer": Format(_asked("question", "answer"), (("question",), ("answer",)), AROUND),
    "alpaca": Format(_asked("instruction", "output"), (("instruction",), ("output",)), AROUND),
    "dolly": Format(_asked("instruction", "response"), (("instruction",), ("response",)), AROUND),
}


def refuse_unread(row: Fields, form: Format) -> None:
    """Raise BadRow for a text that other formats show the model and this one would lose."""
    for field in (field for field in AROUND if field not in form.fields):
        value = row.get(field)
        if value and (_is_list(value) or (isinstance(value, str) and not value.isspace())):
            problem = f'field "{field}" is not read in rows with {listed(names[0] for names in form.needs)}'
            fix = f"Put it into the {form.needs[0][0]}, or rename the column if the model should not see it."
            raise BadRow(problem, fix, f'field "{field}" is not read')


def unread_of_turns(row: Fields, form: Format) -> Iterator[tuple[str, str]]:
    """Yield (field, key), as ("messages", "name"), for each key of a row's turns that has a value and is not read."""
    for field in (field for field in form.fields_in(row) if field in TURNS):
        for turn in row[field] if _is_list(row[field]) else ():
            dialect = dialect_of(turn, field)
            yield from ((field, key) for key, value in turn.items() if key not in dialect.keys and value not in EMPTY)
            if "train" in turn and _idle(turn, "train", dialect.roles.get(turn[dialect.role])):
                yield field, "train (on no answer)"


def _system(row: Fields) -> list[Message]:
    """Return the system message of a row that has one; an empty one is none."""
    text = text_of(row, "system")
    return [Message("system", text)] if text.strip() else []


def _after_system(row: Fields, field: str, turns: list[Message]) -> list[Message]:
    """Put a row's system message before its turns, which may begin with the same one."""
    system = _system(row)
    if turns[:1] == system:
        return turns
    if system and turns and turns[0].role == "system":
        raise BadRow(f'"system" and "{field}" hold different system messages', "Keep one of them.")
    return system + turns


def _answer(row: Fields, field: str) -> Message:
    return Message("assistant", filled(row, field))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _sequence(row: Fields, field: str) -> Sequence[Any]:
    value = row.get(field)
    if isinstance(value, str) and not value.strip():  # an empty cell of a table
        return ()
    if value is not None and not _is_list(value):
        raise BadRow(f'field "{field}" is {described(value)}, not a list', "", f'field "{field}" is not a list')
    return value or ()


def _turns(row: Fields, field: str) -> list[Message]:
    """Read a list of objects with a role and a text each."""
    value = row[field]
    if not _is_list(value) or not value:
        raise BadRow(
            f'field "{field}" is {described(value)}, not a list of messages', "", f'field "{field}" is not a list'
        )
    found = []
    for number, turn in enumerate(value, 1):
        where = f"{field}, message {number}"
        if not isinstance(turn, dict):
            raise BadRow(f"{where} is {described(turn)}, not an object", "", "message is not an object")
        if call := next((key for key in CALLS if turn.get(key)), None):
            fix = (
                "Write the call into the text of the message, or remove the row: learned without, it would stop there."
            )
            raise BadRow(f'{where} has "{call}", which heedful does not learn', fix, f'message with "{call}"')
        dialect = dialect_of(turn, field)
        absent = [key for key in (dialect.role, dialect.text) if key not in turn]
        if absent:
            problem = f'{where} has no "{absent[0]}" (it has {listed(turn)})'
            raise BadRow(problem, did_you_mean(absent[0], turn), f'message without "{absent[0]}"')
        name, text = turn[dialect.role], turn[dialect.text]
        role = dialect.roles.get(name) if isinstance(name, str) else None
        if role is None:
            known = f"Known are {listed(dialect.roles)}."
            raise BadRow(f"{where} has the unknown role {described(name)}", known, "unknown role")
        if role == "system" and text in ("", None):
            continue  # many exports write an empty one into each row; it says nothing
        found.append(message(role, text, where, _supervised(turn, role, where)))
    return found


def dialect_of(turn: Any, field: str) -> Dialect:
    """Find the dialect of one turn: that of its field, or the other where the turn is whole in that one."""
    own = TURNS[field]
    return next((known for known in (own, OPENAI, SHAREGPT) if known.role in turn and known.text in turn), own)


def _supervised(turn: Fields, role: Role, where: str) -> bool | None:
    """Return what a turn's weight of 0 or 1 says: whether an answer is learned. On any other turn 0 says nothing, nor
    does `train: true`: many exports write them."""
    given = {name: turn[name] for name in WEIGHTS if turn.get(name) is not None and not _idle(turn, name, role)}
    values = [*given.values()]
    if any(other != values[0] for other in values):
        raise BadRow(f'{where} has a "weight" and a "train" that differ', "Keep one of them.", "two weights")
    answers = role == "assistant"
    for name, value in given.items():
        if value not in ((0, 1) if answers else (0,)):
            fix = "It may be 0 or 1 (false or true) in an assistant's message, and 0 in any other."
            raise BadRow(f'{where} ({role}) has a "{name}" that is {described(value)}', fix, f'unusable "{name}"')
    return bool(values[0]) if answers and values else None


def _idle(turn: Fields, key: str, role: Role | None) -> bool:
    return key == "train" and role != "assistant" and turn[key] is True
