"""What a caller of the Python API gives as prompts -> messages, or one sentence that says what is taken."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any, get_args

from heedful.clean import is_unicode
from heedful.errors import UsageError
from heedful.records import Message, Role, Sampling

TAKEN = "A prompt is a text, or a list of messages such as {'role': 'user', 'content': 'Hi'}."


def check_prompts(prompts: Any) -> None:
    """Raise UsageError for what is no list of prompts: of a text each character would be one, a set has no order."""
    if isinstance(prompts, str):
        raise UsageError("generate takes a list of prompts, and got one text.", "Write [text].")
    if not isinstance(prompts, Collection) or isinstance(prompts, bytes | Mapping | Set):
        raise UsageError(f"generate takes a list of prompts, and got {_name(prompts)}.", "Write [...] or list(...).")


def messages_of(prompt: Any) -> list[Message]:
    """Read a prompt, a text or a list of messages; UsageError if it is neither."""
    if isinstance(prompt, str):
        return [_message({"role": "user", "content": prompt})]
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes) or not prompt:
        raise UsageError(f"{_name(prompt)} is not a prompt.", TAKEN)
    return [_message(turn) for turn in prompt]


def samplings_of(sampling: Any, count: int) -> list[Sampling]:
    """Give each of `count` prompts its sampling: the one for all, or its own of a list."""
    samplings = [sampling] * count if isinstance(sampling, Sampling) else sampling
    if not isinstance(samplings, Sequence) or not all(isinstance(one, Sampling) for one in samplings):
        raise UsageError(
            f"{_name(sampling)} is not a Sampling.", "Give a heedful.records.Sampling, or one for each prompt."
        )
    if len(samplings) != count:
        raise UsageError(
            f"{len(samplings)} samplings were given for {count} prompts.", "Give one, or one for each prompt."
        )
    return list(samplings)


def _message(turn: Any) -> Message:
    if isinstance(turn, Mapping):
        if set(turn) != {"role", "content"}:
            raise _unlike(turn)
        turn = Message(turn["role"], turn["content"])
    if not isinstance(turn, Message):
        raise UsageError(f"{_name(turn)} is not a message.", TAKEN)
    if turn.role not in get_args(Role) or not all(isinstance(text, str) for text in (turn.content, turn.input)):
        raise _unlike(turn)
    if not is_unicode(turn.content + turn.input):
        raise UsageError("A prompt is not text: it holds half of a character.", "Decode it as UTF-8.")
    return turn


def _unlike(turn: object) -> UsageError:
    roles = ", ".join(get_args(Role))
    return UsageError(
        "A message holds only a role and a content, both texts.", f"The roles are {roles}; got {turn!r:.100}."
    )


def _name(value: Any) -> str:
    """Name a value by its kind, as {'a': 1} (dict), cut where it is long."""
    return f"{value!r:.60} ({type(value).__name__})"
