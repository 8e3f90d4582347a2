"""Where a text may be cut so that its parts, tokenised apart, give the tokens of the whole.

Byte-level BPE merges inside the pieces into which a fixed pattern splits a text, and never across. Two borders are
pieces' borders for every pattern in KNOWN:

- a special token's, because special tokens are taken out before the pattern sees the text;
- that behind `x` and a line feed, where `x` is no white space and none follows: no alternative of the patterns goes on
  from a line feed into a character that is not white space, none looks back, and a single line feed is one piece (or
  the end of x's) whether or not something follows.

Other tokenizers (sentencepiece's mark a text's first word, for one) are not cut at all.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2, LLAMA3 = (_WORDS.replace("NUMBER", number) for number in (r"\p{N}", r"\p{N}{1,3}"))
KNOWN = {QWEN2, LLAMA3}  # and GPT-2's, inside ByteLevel


class Borders:
    """What is known of one tokenizer's borders."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special: tuple[str, ...]) -> None:
        self._tokenizer, self._special = tokenizer, special

    @cached_property
    def known(self) -> bool:
        """Say whether the tokenizer is of the kind that the module describes."""
        backend = self._tokenizer.backend_tokenizer
        normalizer, model = _spec(backend.normalizer), backend.model
        added = self._tokenizer.added_tokens_decoder.values()
        return (
            type(model).__name__ == "BPE"
            and not (model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix)
            and (normalizer is None or normalizer["type"] == "NFC")  # composes nothing across a line feed
            and _splits(_spec(backend.pre_tokenizer))
            and not any(t.lstrip or t.rstrip or t.single_word or "\n" in t.content for t in added)
            and (normalizer is None or not any(t.normalized for t in added))
        )

    @cached_property
    def isolated(self) -> tuple[str, ...]:
        """List the special tokens that nothing beside them can hide: no other token overlaps their text."""
        texts = [token.content for token in self._tokenizer.added_tokens_decoder.values()]
        return tuple(t for t in self._special if not any(_overlap(t, other) for other in texts if other != t))

    def before_special(self, text: str) -> int:
        """Return where the first isolated special token begins, or the text's length."""
        return min((at for token in self.isolated if (at := text.find(token)) >= 0), default=len(text))

    def ends_special(self, text: str) -> bool:
        return text.endswith(self.isolated) if self.isolated else False


def ends_line(text: str) -> bool:
    """Say whether a text ends in a line feed behind what is no white space."""
    return len(text) > 1 and text[-1] == "\n" and not text[-2].isspace()


def _overlap(token: str, other: str) -> bool:
    """Say whether another token may take part of a token's text: by holding it, or by ending in its beginning."""
    return token in other or any(other.endswith(token[:k]) for k in range(1, len(token)))


def _spec(part: Any) -> dict[str, Any] | None:
    """Describe a part of a tokenizer as its file does."""
    return json.loads(part.__getstate__()) if part is not None else None


def _splits(spec: dict[str, Any] | None) -> bool:
    """Say whether a pre-tokenizer splits by the known patterns alone."""
    if spec is None:
        return False
    parts = spec["pretokenizers"] if spec["type"] == "Sequence" else [spec]
    patterns = 0
    for part in parts:
        if part["type"] == "ByteLevel" and not part["add_prefix_space"]:
            patterns += part["use_regex"]
        elif part["type"] == "Split" and part["pattern"].get("Regex") in KNOWN:
            patterns += part["behavior"] == "Isolated" and not part["invert"]
        elif part["type"] != "Digits":
            return False
    return patterns > 0 and parts[-1]["type"] == "ByteLevel"
