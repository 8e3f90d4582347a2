"""Tiny random models and tokenizers made in code: every test runs offline, on the CPU, in a moment."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

KINDS = ("gpt2", "llama", "qwen2", "qwen3", "gpt_neox")
ALIBI = "bloom"  # takes no position_ids
WINDOWED = "mistral"  # a sliding window of 8 tokens in every layer
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 256 + len(SPECIAL)
POSITIONS = 128

_WIDE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
_CONFIG: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS},
    "llama": {**_WIDE, "num_key_value_heads": 2},
    "qwen2": {**_WIDE, "num_key_value_heads": 2},
    "qwen3": {**_WIDE, "num_key_value_heads": 2, "head_dim": 8},
    "gpt_neox": _WIDE,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "attn_implementation": "eager"},
    "mistral": {**_WIDE, "num_key_value_heads": 2, "sliding_window": 8},
}


def tiny_model(kind: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Make a random two-layer model for `byte_tokenizer()`, in eval mode; the weights are large, so it has opinions."""
    config = transformers.AutoConfig.for_model(
        kind,
        **{
            "vocab_size": VOCABULARY,
            "initializer_range": 0.3,
            "attn_implementation": "sdpa",
            "bos_token_id": 256,
            "eos_token_id": 258,
            "pad_token_id": None,
            **{f"{name}_pdrop": 0.0 for name in ("resid", "embd", "attn")},
            **_CONFIG[kind],
            **changes,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model.float().eval()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer: id n is byte n, then `<|endoftext|>`, `<|im_start|>`, `<|im_end|>` (eos)."""
    backend = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(_byte_characters())}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=SPECIAL[0], eos_token=SPECIAL[2], clean_up_tokenization_spaces=False
    )


def word_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer as sentencepiece does: words carry their leading space, unknown characters fall to bytes."""
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    backend = Tokenizer(models.Unigram([(word, -1.0 * (i > 2)) for i, word in enumerate(vocabulary)], 0, True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def _byte_characters() -> list[str]:
    """List GPT-2's stand-in character for each byte, in byte order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte if byte in plain else 256 + others.index(byte)) for byte in range(256)]


def plain_tokenizer() -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer as GPT-2's: `<|endoftext|>` ends texts, and the chatml tokens are not known."""
    described = byte_tokenizer().backend_tokenizer.to_str().replace(SPECIAL[1], "<|a|>").replace(SPECIAL[2], "<|b|>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(described), eos_token=SPECIAL[0])
