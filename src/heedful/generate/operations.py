"""What a layer does between its products: compiled (`kernels/layer.h`) where that is to be had, torch's elsewhere.

All work on one row at a time, so that no row's company changes a bit of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import SiLUActivation

from heedful import kernels

Function = Callable[[torch.Tensor], torch.Tensor]
InPlace = Callable[[torch.Tensor], None]
RopeTable = tuple[torch.Tensor, torch.Tensor] | None


def norm(module: Any, dtype: torch.dtype) -> Function:
    """Copy a LayerNorm or an RMSNorm."""
    centred = isinstance(module, nn.LayerNorm)
    weight = module.weight.detach().to(dtype, copy=True)
    bias = module.bias.detach().to(dtype, copy=True) if centred else None
    eps = float(module.eps if centred else module.variance_epsilon)
    if kernels.has(dtype, weight.device):

        def normalise(x: torch.Tensor) -> torch.Tensor:
            y, width = torch.empty_like(x), x.shape[-1]
            kernels.call("norm", x, weight, bias, y, len(x), 1, width, width, eps, int(centred))
            return y

        return normalise
    if centred:
        return partial(F.layer_norm, normalized_shape=weight.shape, weight=weight, bias=bias, eps=eps)
    return partial(F.rms_norm, normalized_shape=weight.shape, weight=weight, eps=eps)


def norm_heads(weight: torch.Tensor, eps: float) -> InPlace:
    """Normalise the first heads of [tokens, heads, width], each by its row of weight, [those heads, width]."""
    compiled = kernels.has(weight.dtype, weight.device)
    count, width = weight.shape

    def normalise(heads: torch.Tensor) -> None:
        if not compiled:
            heads[:, :count] = F.rms_norm(heads[:, :count], (width,), eps=eps) * weight
            return
        tokens, stride = len(heads), heads.shape[1] * width
        kernels.call("norm", heads, weight, None, heads, tokens, count, stride, width, eps, 0)

    return normalise


def rope_table(rotary: nn.Module | None, positions: int, dtype: torch.dtype, device: torch.device) -> RopeTable:
    """Tabulate cosine and sine of every position for `apply_rope`."""
    if rotary is None:
        return None
    position_ids = torch.arange(positions, device=device)[None]
    compiled = kernels.has(dtype, device)
    cos, sin = rotary(torch.empty(0, dtype=torch.float32 if compiled else dtype, device=device), position_ids)
    half = sin.shape[-1] // 2
    if compiled:  # [positions, width / 2]: the other half is the same
        return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
    signed = torch.cat([-sin[..., :half], sin[..., half:]], -1)  # rotate_half(x) * sin == x.roll(half) * signed
    return cos[0, :, None].contiguous(), signed[0, :, None].contiguous()


def apply_rope(heads: torch.Tensor, count: int, table: RopeTable, positions: torch.Tensor) -> None:
    """Turn the first `count` of [tokens, heads, width] by their tokens' positions, in place."""
    if table is None:
        return
    tokens, all_heads, width = heads.shape
    if kernels.has(heads.dtype, heads.device):
        kernels.call("rotate", heads, *table, positions, tokens, count, all_heads * width, width)
        return
    turned = heads[:, :count]
    cos, sin = table[0][positions], table[1][positions]
    heads[:, :count] = torch.addcmul(turned * cos, turned.roll(width // 2, -1), sin)


def gated(act: Function, x: torch.Tensor) -> torch.Tensor:
    """Return act(gate) * up of [rows, gate and up]."""
    if kernels.has(x.dtype, x.device) and isinstance(act, nn.SiLU | SiLUActivation):
        y = x.new_empty(len(x), x.shape[1] // 2)
        kernels.call("gate", x, x[:, y.shape[1] :], y, len(y), y.shape[1], x.shape[1])
        return y
    gate, up = x.chunk(2, -1)
    return act(gate) * up


def attend_in_place(
    heads: torch.Tensor, cache: torch.Tensor, positions: torch.Tensor, queries: int, scale: float
) -> torch.Tensor:
    """Put each row's key and value at its place in the cache, [rows, columns, 2, kv_heads, width], and attend to all
    up to there; give [rows, queries * width]. `heads` is [rows, queries + 2 kv_heads, width]. Needs `kernels.has`."""
    rows, _, width = heads.shape
    y = heads.new_empty(rows, queries * width)
    kernels.call("attend", heads, cache, positions, y, rows, cache.shape[1], queries, cache.shape[3], width, scale)
    return y


def grouped_attention(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Attend with q [rows, tokens, heads, width] to keys and values, both [rows, kv_heads, columns, width].

    The heads of a group read the same keys, and follow each other as if they were more tokens: so is the mask, 0 or
    -inf, [rows, 1, group * tokens, columns]. Give [rows * tokens, heads * width].
    """
    rows, tokens, heads, width = q.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    q = q.reshape(rows, tokens, kv_heads, group, width).permute(0, 2, 3, 1, 4).flatten(2, 3)
    out = F.scaled_dot_product_attention(q, keys, values, mask, scale=scale)
    out = out.reshape(rows, kv_heads, group, tokens, width).permute(0, 3, 1, 2, 4)
    return out.reshape(rows * tokens, heads * width)
