"""Checked texts and turns: what every format asks of a row, and what a row that fails it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from heedful.clean import is_unicode
from heedful.errors import DataError
from heedful.records import Message, Place, Role

FOLLOWS: dict[Role | None, tuple[Role, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
UNSEEN = "Make it a text, or rename the column if the model should not see it."


class BadRow(DataError):
    """One row that cannot be used; `reason` is what rows with the same fault are counted under."""

    def __init__(self, problem: str, fix: str = "", reason: str = "", place: Place | None = None) -> None:
        super().__init__(f"{place}: {problem}." if place else problem, fix)
        self.reason = reason or problem
        self.bare = problem

    def at(self, place: Place) -> BadRow:
        return BadRow(self.bare, self.fix, self.reason, place)


def described(value: Any) -> str:
    """Name a value in a message: short, whatever it holds."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value[:40]}"' if value.strip() else "empty"
    if isinstance(value, int | float):
        return f"the number {str(value)[:40]}" if abs(value) < 1e40 else "a long number"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return "an object"


def filled(row: Mapping[str, Any], field: str) -> str:
    """Return a field's text; raise BadRow if it is not text or there is nothing in it."""
    return _filled(row[field], f'field "{field}"')


def text_of(row: Mapping[str, Any], field: str) -> str:
    """Return an optional field's text: "" where it is absent, null or blank."""
    value = row.get(field)
    text = "" if value is None else _text(value, f'field "{field}"', UNSEEN)
    return text if text.strip() else ""


def message(role: Role, content: Any, where: str, supervised: bool | None = None) -> Message:
    """Check one turn, whose content is a text or text parts."""
    parts = isinstance(content, list | tuple) and len(content) > 0
    text = joined(_part(part, where) for part in content) if parts else content
    return Message(role, _filled(text, f"{where} ({role})"), supervised)


def joined(parts: Iterable[str]) -> str:
    """Join a message's text parts, trained or served, with nothing between them: so do the chat templates that print
    parts themselves, and a separator would be text that nobody wrote."""
    return "".join(parts)


def check_turns(messages: Sequence[Message]) -> None:
    """Raise BadRow unless user and assistant take turns and the assistant has the last word."""
    before: Role | None = None
    for number, turn in enumerate(messages, 1):
        if turn.role not in FOLLOWS[before]:
            after = f"after {before}" if before else "first"
            expected = " or ".join(FOLLOWS[before])
            problem = f"message {number} is of the role {turn.role}, {after}; {expected} should stand there"
            raise BadRow(problem, "Turns go user, assistant, user, assistant.", f"turn order: {turn.role} {after}")
        before = turn.role
    if before != "assistant":
        fix = "There is nothing to learn from what no answer follows: remove it or add the answer."
        raise BadRow(f"the last message is of the role {before}, not assistant", fix, "no answer at the end")


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict) or part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
        fix = 'A part looks like {"type": "text", "text": "..."}.'
        raise BadRow(f"{where} has a part that is not text", fix, "a part of a message is not text")
    text: str = part["text"]
    return text


def _filled(value: Any, where: str) -> str:
    text = _text(value, where)
    if not text or text.isspace():
        raise BadRow(f"{where} is empty", "Fill it or remove the row.", f"{_kind(where)} is empty")
    return text


def _text(value: Any, where: str, fix: str = "It must be text.") -> str:
    if not isinstance(value, str):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fix = "Write it in quotes." if number else "Fill it or remove the row." if value is None else fix
        reason = f"{_kind(where)} is {'null' if value is None else 'not text'}"
        raise BadRow(f"{where} is {described(value)}, not text", fix, reason)
    if not is_unicode(value):
        problem = f"{where} holds half of a surrogate pair, which is not a character"
        raise BadRow(problem, "Repair or remove it.", f"{_kind(where)} is not Unicode")
    return value


def _kind(where: str) -> str:
    """Drop a message's number, so that equal faults are counted together."""
    return where if where.startswith("field") else f"message {where[where.rfind('(') :]}"


def turns_in_words(turns: Sequence[Message]) -> str:
    """Return turns as a person reads them: the text of one alone, each of several after its role."""
    texts = ["\n\n".join(part for part in (turn.content, turn.input) if part) for turn in turns]
    if len(turns) == 1:
        return texts[0]
    return "\n\n".join(f"{turn.role}: {text}" for turn, text in zip(turns, texts, strict=True))
