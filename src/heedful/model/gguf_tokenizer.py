"""The tokenizer that a GGUF file describes: a text's tokens are those that llama.cpp gives it, or the file is refused.

transformers builds it; what differs from what the header says is put right.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

from heedful.errors import ModelError
from heedful.model.catalogue import loading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TAKE = "Take the Hugging Face folder that the file was made from."
CONTROL, USER_DEFINED = 3, 4  # types of tokens that stand in a text by name; merging never makes them
# names under which llama.cpp does not split a word that is a token, and adds BOS unless the header says otherwise
WHOLE_WORDS = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken",
)  # fmt: skip


def convert_tokenizer(path: Path, folder: Path) -> None:
    """Put a file's tokenizer into a folder; refuse one that is not the same when it is opened there.

    Some classes build one and the same for all their models, whatever was saved.
    """
    tokenizer = read_tokenizer(path)
    tokenizer.save_pretrained(folder)
    again = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if _splitting(tokenizer) != _splitting(again):
        raise ModelError(f"{path} cannot be read: {type(again).__name__} splits texts in another way.", TAKE)
    whole = _whole(_reader(path))
    found = again.backend_tokenizer.encode_batch(list(whole.values()), add_special_tokens=False)
    for (number, token), encoded in zip(whole.items(), found, strict=True):
        if encoded.ids != [number]:
            raise ModelError(f"{path} cannot be read: its token {token!r} ({number}) would become other tokens.", TAKE)


def read_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Let transformers build a file's tokenizer, and make it split texts and know tokens as the header says."""
    reader = _reader(path)
    header = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    kind, name = header.get("tokenizer.ggml.model"), header.get("tokenizer.ggml.pre")
    begins = name in WHOLE_WORDS and "tokenizer.ggml.bos_token_id" in header
    with loading(str(path), str(path)):
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            str(path.parent), gguf_file=str(path.resolve()), **({"add_bos_token": True} if begins else {})
        )
    if kind == "llama":
        _space(path, tokenizer, header)
    if kind == "gpt2":
        _split_as_named(path, tokenizer, name)
        with loading(str(path), str(path)):
            _know_whole(tokenizer, reader)
    return tokenizer


def spaces(first: bool) -> normalizers.Normalizer:
    """Write spaces as llama.cpp does for sentencepiece, each text beginning with one more if `first`.

    A text is what stands before, between and after special tokens, and may begin with a space already; transformers'
    `Metaspace` adds none to such a text, nor after a special token.
    """
    replaced = normalizers.Replace(" ", "\u2581")
    return normalizers.Sequence([normalizers.Prepend("\u2581"), replaced] if first else [replaced])


def _space(path: Path, tokenizer: PreTrainedTokenizerBase, header: dict[str, Any]) -> None:
    """Begin texts with a space where the header says so."""
    first, backend = header.get("tokenizer.ggml.add_space_prefix", True), tokenizer.backend_tokenizer
    if header["general.architecture"].startswith("gemma"):  # its class begins no text with a space
        if first:
            raise ModelError(f"{path} cannot be read: its tokenizer puts a space before texts, its class none.", TAKE)
        return
    backend.normalizer = spaces(first)
    backend.pre_tokenizer = None
    if not first:  # the reader's takes the first space of an answer away
        steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence(steps)


def _split_as_named(path: Path, tokenizer: PreTrainedTokenizerBase, name: str | None) -> None:
    """Split texts before merging as the header says by name, or refuse a name that the reader does not know."""
    from transformers.integrations.gguf import gguf_tokenizer_mapping as known

    backend = tokenizer.backend_tokenizer
    backend.model.ignore_merges = name in WHOLE_WORDS
    by_gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "gpt-2":
        backend.pre_tokenizer = by_gpt2
    elif name == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_gpt2])
    elif name not in known.GGUF_PRE_TOKENIZER_SPLITS:
        raise ModelError(f"{path} cannot be read: its tokenizer splits texts as {name}, which is not known here.", TAKE)


def _know_whole(tokenizer: Any, reader: Any) -> None:
    """Write tokens that stand in a text by name as that name: the reader spells some of them in the letters of bytes.

    A token so spelled may have taken the place of one that is merged.
    """
    whole, tokens = _whole(reader), reader.fields["tokenizer.ggml.tokens"].contents()
    added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
    if whole.items() <= added.items():
        return
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    spelled, entries = described["model"]["vocab"], {entry["content"]: entry for entry in described["added_tokens"]}
    described["model"]["vocab"] = {
        **{name: number for name, number in spelled.items() if number not in whole},
        **{token: number for number, token in enumerate(tokens) if number in whole or token in spelled},
    }
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for number, token in whole.items():
        entry = {**plain, "content": token, "special": types[number] == CONTROL, **entries.get(token, {})}
        entries[token] = {**entry, "id": number}
    described["added_tokens"] = sorted(entries.values(), key=lambda entry: entry["id"])
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(described))


def _whole(reader: Any) -> dict[int, str]:
    """Return the tokens that stand in a text by name."""
    if "tokenizer.ggml.token_type" not in reader.fields:
        return {}
    tokens, types = (reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type"))
    named = (CONTROL, USER_DEFINED)
    return {n: token for n, (token, kind) in enumerate(zip(tokens, types, strict=False)) if kind in named and token}


def _reader(path: Path) -> Any:
    import gguf

    return gguf.GGUFReader(str(path.resolve()))


def _splitting(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Return what a tokenizer does with a text before and while merging, without its tokens."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model, written = described["model"], described["normalizer"]  # of bytes, the class's alone: Unicode's forms
    spaced = written if model.get("byte_fallback") else None
    return [described["pre_tokenizer"], model.get("ignore_merges"), spaced]
