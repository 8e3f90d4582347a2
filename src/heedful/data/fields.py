"""The known formats: which fields a row of each has, and how they become the messages of a conversation.

Nothing here knows templates or tokenizers: an alpaca row's `input` stays a field of its message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.data.checks import FIELD
from heedful.data.turns import BadRow, described, filled, message, text_of
from heedful.errors import did_you_mean
from heedful.records import Message, Role

Fields = Mapping[str, Any]
ABOUT = ("input", "context")
OPENAI, SHAREGPT = ("role", "content", "weight"), ("from", "value", "weight")  # what is read of a turn
TURNS = {"messages": OPENAI, "conversations": SHAREGPT, "prompt": OPENAI, "completion": OPENAI, "response": OPENAI}
CALLS = ("tool_calls", "function_call")  # an answer that is no text

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
    prompt = _openai(row["prompt"], "prompt") if _is_list(row["prompt"]) else [Message("user", filled(row, "prompt"))]
    last = _openai(row[answer], answer) if _is_list(row[answer]) else [_answer(row, answer)]
    return [*_system(row), *prompt, *last]


def _messages(row: Fields) -> list[Message]:
    return _system(row) + _openai(row["messages"], "messages")


def _sharegpt(row: Fields) -> list[Message]:
    return _system(row) + _turns(row["conversations"], "conversations", SHAREGPT, SHAREGPT_ROLES)


AROUND = (*ABOUT, "system", "history")  # what a question may stand among
FORMATS: dict[str, Format] = {
    "messages": Format(_messages, (("messages",),), ("system",)),
    "sharegpt": Format(_sharegpt, (("conversations",),), ("system",)),
    "prompt_completion": Format(_prompt_completion, (("prompt",), ("completion", "response")), ("system",)),
    "question_answer": Format(_asked("question", "answer"), (("question",), ("answer",)), AROUND),
    "alpaca": Format(_asked("instruction", "output"), (("instruction",), ("output",)), AROUND),
    "dolly": Format(_asked("instruction", "response"), (("instruction",), ("response",)), AROUND),
}


def refuse_unread(row: Fields, form: Format) -> None:
    """Raise BadRow for a text that other formats show the model and this one would lose."""
    for field in (field for field in AROUND if field not in form.fields):
        if row.get(field) not in (None, "", [], ()) and not str(row[field]).isspace():
            problem = f'field "{field}" is not read in rows with {listed(names[0] for names in form.needs)}'
            fix = f"Put it into the {form.needs[0][0]}, or rename the column if the model should not see it."
            raise BadRow(problem, fix, f'field "{field}" is not read')


def unread_of_turns(row: Fields, form: Format) -> Iterator[tuple[str, str]]:
    """Return the field and the key of all that a row's turns hold besides what is read: ("messages", "name")."""
    for field in (field for field in form.fields if field in TURNS):
        for turn in row[field] if _is_list(row.get(field)) else ():
            yield from ((field, key) for key, value in turn.items() if value and key not in TURNS[field])


def _system(row: Fields) -> list[Message]:
    """Return the system message of a row that has one; an empty one is none."""
    text = text_of(row, "system")
    return [Message("system", text)] if text.strip() else []


def _answer(row: Fields, field: str) -> Message:
    return Message("assistant", filled(row, field))


def _openai(value: Any, field: str) -> list[Message]:
    return _turns(value, field, OPENAI, OPENAI_ROLES)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _sequence(row: Fields, field: str) -> Sequence[Any]:
    value = row.get(field)
    if value is not None and not _is_list(value):
        raise BadRow(f'field "{field}" is {described(value)}, not a list', "", f'field "{field}" is not a list')
    return value or ()


def _turns(value: Any, field: str, keys: tuple[str, str, str], roles: Mapping[str, Role]) -> list[Message]:
    """Read a list of objects with a role and a text each."""
    role_key, text_key, weight_key = keys
    if not _is_list(value) or not value:
        raise BadRow(
            f'field "{field}" is {described(value)}, not a list of messages', "", f'field "{field}" is no list'
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
        absent = [key for key in (role_key, text_key) if key not in turn]
        if absent:
            problem = f'{where} has no "{absent[0]}" (it has {listed(turn)})'
            raise BadRow(problem, did_you_mean(absent[0], turn), f'message without "{absent[0]}"')
        role = roles.get(turn[role_key]) if isinstance(turn[role_key], str) else None
        if role is None:
            known = f"Known are {listed(roles)}."
            raise BadRow(f"{where} has the unknown role {described(turn[role_key])}", known, "unknown role")
        if role == "system" and turn[text_key] in ("", None):
            continue  # many exports write an empty one into each row; it says nothing
        found.append(message(role, turn[text_key], where, turn.get(weight_key)))
    return found


def listed(names: Iterable[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    head = quoted if len(quoted) <= 12 else [*quoted[:12], f"{len(quoted) - 12} more"]
    return " and ".join(filter(None, [", ".join(head[:-1]), *head[-1:]])) or "no columns"
