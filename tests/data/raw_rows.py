"""Rows as they are read, and the messages that they hold."""

from typing import Any

from heedful.data.readers import RawRow
from heedful.records import Message, Place

SYSTEM, ASK, SAY = Message("system", "Be brief."), Message("user", "Hi?"), Message("assistant", "Hello.")
NEXT, LAST = Message("user", "And?"), Message("assistant", "Bye.")
S, U = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}
A = {"role": "assistant", "content": "Hello."}
HUMAN, GPT = {"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}
ALPACA = {"instruction": "a", "output": "b"}


def raw(value: object, row: int = 3) -> RawRow:
    return RawRow(value, Place("d.json", row, 12))


def chat(*turns: tuple[str, object]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}
