"""Attention over a prefix tree, as a function that transformers' models call: registered under the name TREE.

torch's attention kernel for CPUs is quick forward; its backward pass is most of a training step on trees of a few
hundred nodes. This one goes backward some hundred queries at a time, multiplies whole matrices, and computes the
weights again, so that no layer keeps them.

A query sees no node behind it (nodes lie in depth-first order), so a block of queries needs the keys up to its end
alone. Layers with a sliding window count their distance along the path: by the depth of nodes, not by their place.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from heedful import kernels

TREE = "heedful_tree"
QUERIES = 512  # in a block


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, heads, nodes, width]
    key: torch.Tensor,  # [1, key heads, nodes, width]
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # [1, 1, nodes, nodes] bool: row i marks what node i sees
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    position_ids: torch.Tensor | None = None,
    **other: Any,
) -> tuple[torch.Tensor, None]:
    """Return [1, nodes, heads, width], as transformers' attention functions do; torch's kernel gets what is no
    tree, and what has dropout."""
    nodes = query.shape[2]
    if attention_mask is None or len(query) > 1 or attention_mask.shape != (1, 1, nodes, nodes):
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **other
        )
    if any(other.get(name) is not None for name in ("softcap", "s_aux", "indices")):
        raise NotImplementedError("scores that are capped, or have sinks, or of some keys alone")
    if sliding_window is not None and position_ids is None:
        raise NotImplementedError("a sliding window without the depths of the nodes")
    bias = _bias(attention_mask, query.dtype, sliding_window, position_ids if sliding_window is not None else None)
    if dropout:  # torch draws what is dropped, and knows of windows what the mask says
        visible = (bias == 0)[None, None]
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, visible, dropout=dropout, scaling=scaling, **other
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mixed: torch.Tensor = _TreeAttention.apply(query[0], key[0], value[0], bias, scale)  # type: ignore[no-untyped-call]
    return mixed.transpose(0, 1)[None], None


class _TreeAttention(torch.autograd.Function):
    """softmax(query key^T scale + bias) value; several query heads may share a key head."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, bias: Any, scale: float) -> torch.Tensor:
        grouped = len(query) != len(key)
        mixed = scaled_dot_product_attention(query[None], key[None], value[None], bias, scale=scale, enable_gqa=grouped)
        ctx.save_for_backward(query, key, value, bias)
        ctx.scale = scale
        return mixed[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, bias = ctx.saved_tensors
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for start in range(0, query.shape[1], QUERIES):
            end = start + QUERIES
            block, keys, rows = query[:, start:end], key[:, :end], len(key)
            # the query heads of a key head, one under the other: [key heads, queries, width]
            grouped = block.reshape(rows, -1, block.shape[-1])
            above = gradients[0][:, start:end].reshape(rows, -1, value.shape[-1])
            weights = _softmax(torch.bmm(grouped, keys.transpose(1, 2)), bias[start:end, :end], ctx.scale)
            to_value[:, :end] += torch.bmm(weights.transpose(1, 2), above)
            to_scores = _softmax_back(torch.bmm(above, value[:, :end].transpose(1, 2)), weights, ctx.scale)
            to_query[:, start:end] = torch.bmm(to_scores, keys).view_as(block)
            to_key[:, :end] += torch.bmm(to_scores.transpose(1, 2), grouped)
        return to_query, to_key, to_value, None, None


def _softmax(scores: torch.Tensor, bias: torch.Tensor, scale: float) -> torch.Tensor:
    """Return softmax(scores * scale + bias), in place; it adds up in fp32 whatever the numbers' type."""
    queries, keys = bias.shape
    if kernels.has(scores.dtype, scores.device):
        heads, stride = scores.numel() // bias.numel(), bias.stride(0)
        kernels.call("softmax", scores, bias, heads, queries, keys, stride, scale)
        return scores
    return (scores.view(-1, queries, keys).mul_(scale).add_(bias)).softmax(-1).view_as(scores)


def _softmax_back(to_weights: torch.Tensor, weights: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the gradient of the scores before their scaling."""
    if kernels.has(weights.dtype, weights.device):
        keys = weights.shape[-1]
        kernels.call("softmax_back", to_weights, weights, weights.numel() // keys, keys, scale)
        return to_weights
    return torch._softmax_backward_data(to_weights, weights, -1, weights.dtype).mul_(scale)


@lru_cache(maxsize=2)  # a forward asks for it in every layer; tensors are told apart by identity
def _bias(mask: torch.Tensor, dtype: torch.dtype, window: int | None, depths: torch.Tensor | None) -> torch.Tensor:
    """Return [nodes, nodes] to add to scores: 0 where a node sees the other, elsewhere enough to weigh nothing."""
    visible = mask[0, 0]
    if window is not None and depths is not None:
        visible = visible & (depths[0][:, None] - window < depths[0][None, :])
    seen = torch.zeros((), dtype=dtype, device=mask.device)
    return torch.where(visible, seen, torch.finfo(dtype).min)


def forget_masks() -> None:
    """Let go of the last forward's masks: those of a long tree are gigabytes."""
    _bias.cache_clear()


AttentionInterface.register(TREE, tree_attention)
AttentionMaskInterface.register(TREE, sdpa_mask)  # for masks that transformers makes itself, as in the padded layout
