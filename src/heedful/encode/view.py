"""An example as its tokens read, each with whether it is learned: what a person looks at to trust the encoding."""

from __future__ import annotations

from typing import Any

from heedful.encode.tokenise import Encoder
from heedful.records import TokenizedExample

SHOWN_TOKENS = 400  # of a row
UNFINISHED = "\ufffd"  # what the tokenizer gives for a part of a character


def token_view(encoder: Encoder, example: TokenizedExample, place: str) -> dict[str, Any]:
    """Return the row's place and its tokens as [text, supervised]; those that make one character stand as one."""
    tokens: list[list[Any]] = []
    ids, shown, waiting = example.ids[:SHOWN_TOKENS].tolist(), "", 0
    for end, supervised in enumerate(example.supervised[:SHOWN_TOKENS].tolist(), 1):
        text = encoder.tokenizer.decode(ids[:end])  # from the start: some tokenizers drop the space of a first token
        waiting += 1
        if not text.endswith(UNFINISHED) or waiting == 4:  # UTF-8 takes up to four bytes
            tokens.append([text[len(shown) :], supervised])
            shown, waiting = text, 0
    return {"place": place, "tokens": tokens, "more": max(0, len(example) - SHOWN_TOKENS)}
