"""A tokenizer as GGUF describes it: tokens with their types, merges or scores, and which of llama.cpp's ways to split.

llama.cpp does not read a splitting pattern; it knows patterns by name. So a tokenizer is recognised by what it does,
or refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import gguf
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from heedful.encode.borders import LLAMA3, QWEN2
from heedful.encode.template import adds_bos
from heedful.encode.tokenise import Encoder
from heedful.errors import ExportError
from heedful.model.gguf_tokenizer import spaces

_PLAIN_BYTES = ("ByteLevel", False)
SPLITS: dict[tuple[Any, ...], str] = {  # what happens before merging -> llama.cpp's name of it
    (("ByteLevel", True),): "gpt-2",
    (("Digits", True), ("ByteLevel", True)): "smollm",
    (("Split", QWEN2, "Isolated", False), _PLAIN_BYTES): "qwen2",
    (("Split", LLAMA3, "Isolated", False), _PLAIN_BYTES): "llama-bpe",
}
IGNORES_MERGES = {"llama-bpe"}  # llama.cpp takes a whole word that is a token, under these names
NEVER = -1e6  # the score of a token that no merge makes
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """`model` is llama.cpp's kind of tokenizer; one of merges and scores is there."""

    model: str  # gpt2: byte-level merges; llama: sentencepiece
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str] | None
    scores: list[float] | None
    space_first: bool  # a text begins as if a space stood before it


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, rows: int) -> Vocabulary:
    """Describe a tokenizer of a model with `rows` embeddings, or say that llama.cpp does not know its type."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model = described["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model.get("merges", [])]
    tokens, types = _tokens(tokenizer, model, rows)
    if model["type"] == "BPE" and model.get("byte_fallback"):
        space_first = _sentencepiece(described)
        return Vocabulary("llama", "default", tokens, types, None, _scores(tokens, merges), space_first)
    pre = SPLITS.get(_steps(described["pre_tokenizer"])) if model["type"] == "BPE" else None
    normalizer, ignores_merges = described["normalizer"], bool(model.get("ignore_merges"))
    if pre is None or (normalizer and normalizer["type"] != "NFC") or ignores_merges != (pre in IGNORES_MERGES):
        raise ExportError(
            f"llama.cpp knows no tokenizer like this model's ({_name(described)}).",
            f"Known are sentencepiece's BPE and byte-level BPE as in {', '.join(SPLITS.values())}; --to hf takes any.",
        )
    return Vocabulary("gpt2", pre, tokens, types, [" ".join(pair) for pair in merges], None, False)


def as_llama_cpp(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return a tokenizer that treats spaces as llama.cpp will by what `vocabulary_of` says of this one."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    described = json.loads(backend.to_str())
    if described["model"].get("byte_fallback"):
        backend.normalizer, backend.pre_tokenizer = spaces(_sentencepiece(described)), None
    return backend


def write_vocabulary(writer: Any, encoder: Encoder, rows: int) -> None:
    """Put a tokenizer, its special tokens, the stop tokens and the chat template into a GGUF file's header."""
    tokenizer = encoder.tokenizer
    vocabulary = vocabulary_of(tokenizer, rows)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    writer.add_add_space_prefix(vocabulary.space_first)
    writer.add_add_bos_token(adds_bos(tokenizer))
    eos, *other = [tokenizer.eos_token_id, *sorted(encoder.stop_ids - {tokenizer.eos_token_id})]
    ids = {"bos": tokenizer.bos_token_id, "eos": eos, "eot": other[0] if other else None}
    ids |= {"unk": tokenizer.unk_token_id, "pad": tokenizer.pad_token_id}
    for name, number in ids.items():
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_chat_template(encoder.template.source)


def _tokens(tokenizer: PreTrainedTokenizerBase, model: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """List every embedding's token and its type; embeddings without a token get a name that no text has."""
    kinds = gguf.TokenType
    vocabulary = model["vocab"] if isinstance(model["vocab"], dict) else {}
    named = {number: token for token, number in vocabulary.items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(rows):
        if number in added:
            text, kind = added[number].content, kinds.CONTROL if added[number].special else kinds.USER_DEFINED
        elif number in named:
            text = named[number]
            kind = kinds.BYTE if model.get("byte_fallback") and BYTE.fullmatch(text) else kinds.NORMAL
        else:
            text, kind = f"[PAD{number}]", kinds.UNUSED
        unknown = text == model.get("unk_token") and kind == kinds.NORMAL
        tokens.append(text)
        types.append(int(kinds.UNKNOWN if unknown else kind))
    return tokens, types


def _scores(tokens: list[str], merges: list[tuple[str, ...]]) -> list[float]:
    """Turn the order of merges into scores: what is merged first scores highest."""
    rank: dict[str, int] = {}
    for number, pair in enumerate(merges):
        rank.setdefault("".join(pair), number)
    return [float(-rank[token]) if token in rank else NEVER for token in tokens]


def _sentencepiece(described: dict[str, Any]) -> bool:
    """Say whether a text gets a space in front; refuse what is not sentencepiece's way with spaces."""
    steps = _flat(described["normalizer"], "normalizers")
    before = _flat(described["pre_tokenizer"], "pretokenizers")
    kinds = [step["type"] for step in steps]
    replaces = kinds in (["Replace"], ["Prepend", "Replace"])
    keeps = not before or ([s["type"] for s in before] == ["Split"] and before[0]["behavior"] == "MergedWithPrevious")
    metaspace = not steps and [s["type"] for s in before] == ["Metaspace"] and not before[0].get("split", True)
    if metaspace:
        return bool(before[0].get("prepend_scheme") != "never")
    if not (replaces and keeps):
        raise ExportError(f"llama.cpp knows no tokenizer like this model's ({_name(described)}).", "Use --to hf.")
    return bool(kinds[0] == "Prepend")


def _steps(pre_tokenizer: dict[str, Any] | None) -> tuple[Any, ...]:
    """Reduce a pre-tokenizer to what it does."""
    steps: list[Any] = []
    for step in _flat(pre_tokenizer, "pretokenizers"):
        if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
            steps.append(("ByteLevel", step["use_regex"]))
        elif step["type"] == "Digits":
            steps.append(("Digits", step["individual_digits"]))
        elif step["type"] == "Split":
            steps.append(("Split", step["pattern"].get("Regex"), step["behavior"], step["invert"]))
        else:
            steps.append((step["type"],))
    return tuple(steps)


def _flat(step: dict[str, Any] | None, parts: str) -> list[dict[str, Any]]:
    if step is None:
        return []
    return [leaf for part in step[parts] for leaf in _flat(part, parts)] if step["type"] == "Sequence" else [step]


def _name(described: dict[str, Any]) -> str:
    """Name a tokenizer by its parts, as in `BPE after Digits, ByteLevel`."""
    before = ", ".join(step["type"] for step in _flat(described["pre_tokenizer"], "pretokenizers"))
    return f"{described['model']['type']} after {before}" if before else str(described["model"]["type"])
