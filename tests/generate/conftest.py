"""A prompter over bytes, and engines over tiny random models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from tests.models import byte_tokenizer, tiny_model
from transformers import PreTrainedTokenizerBase

from heedful.generate.engine import Engine
from heedful.records import Message


class Bytes:
    """The simplest prompt format: what was said, and nothing else. Only `<|im_end|>` stops."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None, stop: Sequence[int] = (258,)) -> None:
        self.tokenizer = tokenizer or byte_tokenizer()
        self.stop_ids = frozenset(stop)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        text = "".join(message.content for message in messages)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


@cache
def shared_engine(kind: str) -> Engine:
    return Engine(tiny_model(kind), Bytes(), kind)


@pytest.fixture
def engine() -> Engine:
    """An engine of this test alone, whose answers only end by length or by stop strings."""
    return Engine(tiny_model("llama"), Bytes(stop=()), "tiny")
