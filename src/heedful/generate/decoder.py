"""The forward of llama-like models and GPT-2 without the framework around it: packed weights and few operations.

Everything but attention works token by token; attention is the caller's. `build` reads a transformers model's own
modules, so that it has what the configuration asks for (biases, norms of queries and keys, scaled RoPE, tied heads);
it gives None for an architecture, or a setting of one, that is not written here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from heedful.generate.linear import Linear, same_bits
from heedful.generate.operations import Function, InPlace, RopeTable, apply_rope, gated, norm, norm_heads, rope_table

ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # those that are a function of the position alone
Attend = Callable[[int, torch.Tensor], torch.Tensor]  # layer, [tokens, heads + 2 kv_heads, width] -> [tokens, width]


@dataclass(frozen=True)
class AttentionSizes:
    """What attention must know: `heads` queries share `kv_heads` keys and values of `width` numbers each."""

    layers: int
    heads: int
    kv_heads: int
    width: int
    scale: float


@dataclass(frozen=True)
class Layer:
    """One block of a model."""

    norm_in: Function
    qkv: Linear
    norm_heads: InPlace | None  # of queries and keys
    out: Linear
    norm_mid: Function
    up: Linear
    act: Function
    down: Linear


@dataclass
class Decoder:
    """A model's weights, in order of use. `*_sizes` are the numbers of rows that give the same bits; () if all do."""

    embed: Function
    position_embedding: nn.Embedding | None  # learned positions, or
    rotary: nn.Module | None  # rotary embeddings of queries and keys
    layers: list[Layer]
    norm: Function
    head: Linear
    attention: AttentionSizes
    dtype: torch.dtype
    device: torch.device
    prefill_sizes: tuple[int, ...] = ()  # of prompts' tokens: many at once
    decode_sizes: tuple[int, ...] = ()  # of answers' tokens, one a row, and of everything before the head

    def __post_init__(self) -> None:
        first = self.layers[0]
        if first.qkv.product is not None:  # any number
            return
        shapes = frozenset(part.shape for part in (first.qkv, first.out, first.up, first.down))
        self.prefill_sizes = same_bits(shapes, 64, self.dtype, self.device)
        self.decode_sizes = same_bits(shapes | {self.head.shape}, 16, self.dtype, self.device)

    def rope_table(self, positions: int) -> RopeTable:
        """Tabulate the rotary embeddings of so many positions."""
        return rope_table(self.rotary, positions, self.dtype, self.device)

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, rope: RopeTable, rows: tuple[int, ...], attend: Attend
    ) -> torch.Tensor:
        """Run [tokens] through all layers, in blocks of `rows`; give their last states, [tokens, width]."""
        sizes = self.attention
        x = self.embed(ids).to(self.dtype)
        if self.position_embedding is not None:
            last = self.position_embedding.num_embeddings - 1
            inside = positions.clamp(max=last)  # a last unit's filling may lie behind
            x = x + self.position_embedding(inside).to(self.dtype)
        for i, layer in enumerate(self.layers):
            heads = layer.qkv(layer.norm_in(x), rows).view(len(x), -1, sizes.width)
            if layer.norm_heads is not None:
                layer.norm_heads(heads)
            apply_rope(heads, sizes.heads + sizes.kv_heads, rope, positions)
            x = layer.out(attend(i, heads), rows, x)
            x = layer.down(layer.act(layer.up(layer.norm_mid(x), rows)), rows, x)
        return x

    def logits(self, states: torch.Tensor, rows: tuple[int, ...]) -> torch.Tensor:
        """Return the logits after these states, [rows, vocabulary]."""
        return self.head(self.norm(states), rows)


def build(model: PreTrainedModel, dtype: torch.dtype) -> Decoder | None:
    """Copy a model's weights into a Decoder of this type; None if its architecture is not one of ours."""
    kinds = {"llama": _llama, "mistral": _llama, "qwen2": _llama, "qwen3": _llama, "gpt2": _gpt2}
    kind = kinds.get(getattr(model.config, "model_type", ""))
    if kind is None or not hasattr(model, "lm_head") or model.device.type == "meta":
        return None
    try:
        return kind(model, dtype)
    except (AttributeError, _Unknown):  # wrapped or replaced modules
        return None


class _Unknown(Exception):
    """A setting or a module that the decoder does not know."""


def _llama(model: Any, dtype: torch.dtype) -> Decoder:
    config, body = model.config, model.model
    rope_type = getattr(body.rotary_emb, "rope_type", None)
    windows = set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}
    if rope_type not in ROPE_TYPES or windows or (config.model_type == "mistral" and config.sliding_window):
        raise _Unknown
    first = body.layers[0].self_attn
    kv_heads = config.num_key_value_heads
    sizes = AttentionSizes(len(body.layers), config.num_attention_heads, kv_heads, first.head_dim, first.scaling)
    layers = []
    for block in body.layers:
        attention, mlp = block.self_attn, block.mlp
        layers.append(
            Layer(
                norm(block.input_layernorm, dtype),
                _linear([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
                _norm_heads(attention, sizes, dtype),
                _linear([attention.o_proj], dtype),
                norm(block.post_attention_layernorm, dtype),
                _linear([mlp.gate_proj, mlp.up_proj], dtype),
                partial(gated, mlp.act_fn),
                _linear([mlp.down_proj], dtype),
            )
        )
    head, last = _linear([model.lm_head], dtype), norm(body.norm, dtype)
    return Decoder(body.embed_tokens, None, body.rotary_emb, layers, last, head, sizes, dtype, model.device)


def _gpt2(model: Any, dtype: torch.dtype) -> Decoder:
    config, body = model.config, model.transformer
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention:
        raise _Unknown
    width = config.n_embd // config.n_head
    sizes = AttentionSizes(len(body.h), config.n_head, config.n_head, width, width**-0.5)
    layers = [
        Layer(
            norm(block.ln_1, dtype),
            _linear([block.attn.c_attn], dtype),
            None,
            _linear([block.attn.c_proj], dtype),
            norm(block.ln_2, dtype),
            _linear([block.mlp.c_fc], dtype),
            block.mlp.act,
            _linear([block.mlp.c_proj], dtype),
        )
        for block in body.h
    ]
    head, last = _linear([model.lm_head], dtype), norm(body.ln_f, dtype)
    return Decoder(body.wte, body.wpe, None, layers, last, head, sizes, dtype, model.device)


def _linear(modules: Sequence[nn.Module], dtype: torch.dtype) -> Linear:
    """Join layers that read the same input into one."""
    if not all(type(module) in (nn.Linear, Conv1D) for module in modules):
        raise _Unknown
    weights: Any = [module.weight.T if type(module) is Conv1D else module.weight for module in modules]
    biases: Any = [module.bias for module in modules]
    return Linear(weights, biases, dtype)


def _norm_heads(attention: Any, sizes: AttentionSizes, dtype: torch.dtype) -> InPlace | None:
    """Normalise each query and key by itself, as Qwen3 does."""
    if not hasattr(attention, "q_norm"):
        return None
    parts = [attention.q_norm.weight] * sizes.heads + [attention.k_norm.weight] * sizes.kv_heads
    weight = torch.stack([part.detach().to(dtype) for part in parts])  # [heads + kv_heads, width]
    return norm_heads(weight, float(attention.q_norm.variance_epsilon))
