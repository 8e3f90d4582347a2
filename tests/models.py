"""Tiny random models and tokenizers made in code: every test runs offline, on the CPU, in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from heedful.encode.borders import LLAMA3, QWEN2

KINDS = ("gpt2", "llama", "qwen2", "qwen3", "gpt_neox")
ALIBI = "bloom"  # takes no position_ids
EXPERTS = "mixtral"  # routes each token to some of its parts
WINDOWED = "mistral"  # a sliding window of 8 tokens in every layer
LEARNED = "blenderbot"  # learned positions, counted by columns
LOCAL = "gpt_neo"  # a window of 8 tokens in every second layer, which its cache does not tell
CONVOLVED = "lfm2"  # a cache that no single row can leave
CACHELESS = "openai-gpt"  # reads every token again
SPARSE = "deepseek_v32"  # each token attends to 16 that it chose
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = [
    f"{begin} the {thing} in {year}, please: {thing}s and {year + 11} more.\n"
    for begin in ("Name", "Describe", "What is", "Rewrite")
    for thing in ("capital of France", "past tense", "answer", "sentence")
    for year in (1999, 2024)
]
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
    "gemma3_text": {
        **_WIDE,
        "num_hidden_layers": 7,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "attn_implementation": "eager"},
    "mixtral": {**_WIDE, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        **_WIDE,
        "num_key_value_heads": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 32,
    },
    "mistral": {**_WIDE, "num_key_value_heads": 2, "sliding_window": 8},
    "phi3": {**_WIDE, "num_key_value_heads": 2},
    "starcoder2": {**_WIDE, "num_key_value_heads": 2, "use_bias": True},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
        "max_position_embeddings": POSITIONS,
        "attn_implementation": "eager",
    },
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "lfm2": {**_WIDE, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]},
    **dict.fromkeys(("bert", "electra", "roberta", "biogpt"), _WIDE),
    "ctrl": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "dff": 64},
    "blenderbot": {
        "forced_eos_token_id": None,
        "d_model": 32,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 64,
        "init_std": 0.3,
        "max_position_embeddings": POSITIONS,
    },
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "attn_implementation": "eager"},
    "llama4_text": {**_WIDE, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4},
    "inkling_text": {
        **_WIDE,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "mlp_layer_types": ["sparse", "sparse"],
        "rel_extent": 64,
        "d_rel": 8,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
    },
    "deepseek_v32": {
        **_WIDE,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "index_n_heads": 32,
        "index_head_dim": 16,
        "index_topk": 16,  # few heads would leave ties at 0
    },
    "prophetnet": {
        "hidden_size": 32,
        "num_decoder_layers": 2,
        "num_decoder_attention_heads": 4,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        "attn_implementation": "eager",
        "init_std": 0.3,
    },
}


# one layer without experts, one with, and with an expert that all tokens share
_CONFIG["deepseek_v3"] = {**_CONFIG["deepseek_v32"], "first_k_dense_replace": 1}


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
            **_CONFIG.get(kind, {}),
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


def trained_tokenizer(split: str = "gpt-2") -> PreTrainedTokenizerFast:
    """Make a byte-level BPE tokenizer with some merges, split before merging as a well-known model's is."""
    plain, with_regex = (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex) for regex in (False, True))
    before = {
        "gpt-2": with_regex,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), with_regex]),
        "qwen2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), plain]),
        "llama-bpe": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), plain]),
    }
    backend = Tokenizer(models.BPE(ignore_merges=split == "llama-bpe"))
    backend.pre_tokenizer = before[split]
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=SPECIAL[0], eos_token=SPECIAL[2], clean_up_tokenization_spaces=False
    )


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer as Gemma's was converted: spaces become a character, each token may be merged in any way."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    texts = [text.replace(" ", "▁") for text in CORPUS]
    trained.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    learned = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *(t for t, _ in learned)]
    vocabulary = {name: number for number, name in enumerate(names)}
    merges = [(t[:i], t[i:]) for t, _ in learned for i in range(1, len(t)) if {t[:i], t[i:]} <= vocabulary.keys()]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = (*names[:4], "<start_of_turn>", "<end_of_turn>")
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def begun_with_a_space(tokenizer: Any) -> Any:
    """Let each text begin with a space, as the tokenizers of Llama 2 and Phi-3 do."""
    space = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(space)
    return tokenizer


def _byte_characters() -> list[str]:
    """List GPT-2's stand-in character for each byte, in byte order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte if byte in plain else 256 + others.index(byte)) for byte in range(256)]


def gapped_tokenizer(last: int) -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer whose `z` has the id `last`, behind ids that no token has."""
    described = json.loads(byte_tokenizer().backend_tokenizer.to_str())
    described["model"]["vocab"]["z"] = last
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(described)), eos_token=SPECIAL[2])


def plain_tokenizer() -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer as GPT-2's: `<|endoftext|>` ends texts, and the chatml tokens are not known."""
    described = byte_tokenizer().backend_tokenizer.to_str().replace(SPECIAL[1], "<|a|>").replace(SPECIAL[2], "<|b|>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(described), eos_token=SPECIAL[0])


def folder_of(path: Path, kind: str = "llama", **changes: Any) -> Path:
    """Save a tiny model and a tokenizer of bytes in a folder."""
    tiny_model(kind, **changes).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path
