"""A conversation that is too long, made shorter: the prompt's texts first, the answer last, the stop token never.

What is cut is text inside a message, so the template, its markers and the stop token stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from heedful.records import Message

Messages = tuple[Message, ...]


def cut(messages: Messages, excess: int, tokenizer: PreTrainedTokenizerBase) -> tuple[Messages, str] | None:
    """Take about `excess` tokens out; give the shorter conversation and the field that was cut, or None.

    In order: the oldest exchanges, the input, the user's text, the system's text, then the answer.
    """
    if sum(message.role == "assistant" for message in messages) > 1:
        return _without_oldest_exchange(messages), "oldest turns"
    for role, field, name in _ORDER:
        for i in reversed(range(len(messages))):
            text = getattr(messages[i], field)
            shorter = _without_tail(text, excess, tokenizer) if messages[i].role == role else text
            if shorter != text:
                return (*messages[:i], replace(messages[i], **{field: shorter}), *messages[i + 1 :]), name
    return None


_ORDER = (
    ("user", "input", "input"),
    ("user", "content", "instruction"),
    ("tool", "content", "tool result"),
    ("system", "content", "system"),
    ("assistant", "content", "answer"),
)


def _without_oldest_exchange(messages: Messages) -> Messages:
    system = tuple(message for message in messages[:1] if message.role == "system")
    first_answer = next(i for i, message in enumerate(messages) if message.role == "assistant")
    return (*system, *messages[first_answer + 1 :])


def _without_tail(text: str, excess: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Cut at least one and about `excess` tokens off the end of a text; one token at least stays."""
    starts: Sequence[tuple[int, int]] = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )["offset_mapping"]
    keep = max(1, len(starts) - excess)
    return text[: starts[keep][0]].rstrip() if keep < len(starts) else text
