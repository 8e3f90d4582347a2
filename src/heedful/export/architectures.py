"""What GGUF calls an architecture's settings and tensors, and how llama.cpp wants the numbers to lie.

What llama.cpp's program for an architecture takes for granted is listed too, and a model that differs is refused: its
file would not load, or load and answer otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gguf
import torch
from transformers import PretrainedConfig

from heedful.errors import ExportError

Store = Callable[[str, torch.Tensor, PretrainedConfig], torch.Tensor]
WINDOW_PERIOD = 6  # of Gemma 3's layers, each sixth sees everything


@dataclass(frozen=True)
class Architecture:
    """One `general.architecture`: how it is described, how a tensor of a GGUF name is stored, what it assumes."""

    name: str
    arch: gguf.MODEL_ARCH
    describe: Callable[[Any, PretrainedConfig], None]
    store: Store
    assumes: Mapping[str, Any]  # settings by which llama.cpp computes without asking


def architecture_of(config: PretrainedConfig) -> Architecture:
    """Find a model's architecture, or refuse it by name."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise ExportError(
            f"GGUF export does not know the architecture '{config.model_type}'.",
            f"It knows {', '.join(ARCHITECTURES)}; --to hf takes any.",
        )
    _refuse_scaled_rotations(config)
    given = {setting: (wanted, _setting(config, setting)) for setting, wanted in found.assumes.items()}
    if found.name == "qwen2":  # whose head size no GGUF file tells
        given["head_dim"] = config.hidden_size // config.num_attention_heads, _head_size(config)
    for setting, (wanted, value) in given.items():
        if value != wanted:
            raise ExportError(
                f"llama.cpp computes {found.name} with {setting}={wanted}, but this model has {value}.",
                "Export it with --to hf.",
            )
    return found


def tensor_name(name: str, names: Any) -> str | None:
    """Return a tensor's GGUF name by its name in the model's folder; None if GGUF does not hold it (masks)."""
    stem, dot, suffix = name.rpartition(".")
    if stem.endswith(".attn") and suffix in ("bias", "masked_bias"):
        return None
    found = names.get_name(stem)
    if found is None:
        raise ExportError(f"GGUF has no name for the tensor '{name}'.", "Export it with --to hf.")
    return f"{found}{dot}{suffix}"


def _setting(config: PretrainedConfig, path: str) -> Any:
    """Read `a.b` of a configuration; None where it is not there."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
    return value


def _refuse_scaled_rotations(config: PretrainedConfig) -> None:
    """Refuse scaled rotary embeddings: llama.cpp knows them, but not transformers' reader, which proves the file."""
    rope = getattr(config, "rope_parameters", None) or {}
    for kind in (rope,) if "rope_theta" in rope else rope.values():
        if kind["rope_type"] != "default":
            raise ExportError(
                f"GGUF export does not know rotary embeddings that are scaled, as this model's are "
                f"({kind['rope_type']}): such a file could not be read back and compared with the run.",
                "Export it with --to hf.",
            )


def _head_size(config: PretrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _describe_rotary(writer: Any, config: PretrainedConfig) -> None:
    """Describe what llama, qwen and gemma share."""
    rope = config.rope_parameters
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(rope.get("full_attention", rope)["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    if config.model_type != "qwen2":  # where llama.cpp divides by itself
        writer.add_key_length(_head_size(config))
        writer.add_value_length(_head_size(config))


def _describe_llama(writer: Any, config: PretrainedConfig) -> None:
    _describe_rotary(writer, config)
    writer.add_rope_dimension_count(_head_size(config))


def _describe_gemma3(writer: Any, config: PretrainedConfig) -> None:
    layers = [
        "full_attention" if (i + 1) % WINDOW_PERIOD == 0 else "sliding_attention"
        for i in range(len(config.layer_types))
    ]
    if config.layer_types != layers or config.query_pre_attn_scalar != _head_size(config):
        raise ExportError(
            "llama.cpp computes gemma3 with every sixth layer seeing everything and queries scaled by the head's size;"
            " this model differs.",
            "Export it with --to hf.",
        )
    _describe_rotary(writer, config)
    writer.add_sliding_window(config.sliding_window)


def _describe_gpt2(writer: Any, config: PretrainedConfig) -> None:
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _as_it_is(name: str, weight: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    return weight


def _interleaved(name: str, weight: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """Reorder the rows of queries and keys: rotary pairs (i, i + half) stand side by side. 0 1 2 3 becomes 0 2 1 3."""
    if ".attn_q." not in name and ".attn_k." not in name:
        return weight
    heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).transpose(1, 2).reshape(weight.shape)


def _transposed(name: str, weight: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """Turn GPT-2's layers, which are stored [in, out], around."""
    layers = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    return weight.T if name.endswith(layers) else weight


def _with_one(name: str, weight: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """Add the 1 that Gemma's norms add to their weight."""
    return weight.float() + 1 if name.endswith("norm.weight") else weight


ARCHITECTURES = {
    "llama": Architecture("llama", gguf.MODEL_ARCH.LLAMA, _describe_llama, _interleaved, {"hidden_act": "silu"}),
    "gpt2": Architecture(
        "gpt2",
        gguf.MODEL_ARCH.GPT2,
        _describe_gpt2,
        _transposed,
        {
            "activation_function": "gelu_new",
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
    ),
    "qwen2": Architecture(
        "qwen2",
        gguf.MODEL_ARCH.QWEN2,
        _describe_rotary,
        _as_it_is,
        {"hidden_act": "silu", "use_sliding_window": False},
    ),
    "qwen3": Architecture(
        "qwen3",
        gguf.MODEL_ARCH.QWEN3,
        _describe_rotary,
        _as_it_is,
        {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False},
    ),
    "gemma3_text": Architecture(
        "gemma3",
        gguf.MODEL_ARCH.GEMMA3,
        _describe_gemma3,
        _with_one,
        {
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "rope_parameters.sliding_attention.rope_theta": 10_000.0,
        },
    ),
}
