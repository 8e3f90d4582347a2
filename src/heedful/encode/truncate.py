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

    In order: the oldest exchanges, the input, the user's text, a tool's, the system's, then the last answer. An
    exchange goes whole, from a user's message to the next, so that no tool's result stands without its question.
    """
    questions = [i for i, message in enumerate(messages) if message.role == "user"]
    if len(questions) > 1:
        return (*messages[: questions[0]], *messages[questions[1] :]), "oldest turns"
    for role, field, name in _ORDER:
        for i in reversed(range(len(messages))):
            text = getattr(messages[i], field)
            shorter = _without_tail(text, excess, tokenizer) if messages[i].role == role else text
            if shorter != text:
                shortened = _with(messages[i], field, shorter)
                return (*messages[:i], shortened, *messages[i + 1 :]), name
    return None


_ORDER = (
    ("user", "input", "input"),
    ("user", "content", "instruction"),
    ("tool", "content", "tool result"),
    ("system", "content", "system"),
    ("assistant", "content", "answer"),
)


def _with(message: Message, field: str, text: str) -> Message:
    return replace(message, input=text) if field == "input" else replace(message, content=text)


def _without_tail(text: str, excess: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Cut at least one and about `excess` tokens off the end of a text; one token at least stays."""
    starts: Sequence[tuple[int, int]] = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )["offset_mapping"]
    keep = max(1, len(starts) - excess)
    end = next((start for start, _ in starts[keep:] if start > 0), len(text))  # a character may be several tokens
    return text[:end].rstrip() or text[:end]
