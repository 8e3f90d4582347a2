"""A linear layer whose row of output is a function of its row of input alone, to the last bit.

A matrix product picks its kernel by the number of rows, and kernels sum in different orders. So only those numbers of
rows are used that were seen to give the same bits (`same_bits`), and a batch is cut into blocks of them (`blocks`). On
CPUs the weights are packed once into the order in which oneDNN's kernels read them, instead of at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # numbers of rows to try


class Linear:
    """`x @ weight.T + bias` for x of [rows, width]; the weight may be a view, and is copied in `dtype`."""

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None], dtype: torch.dtype):
        weight = torch.cat([part.detach().to(dtype) for part in weights]).contiguous()
        bias = None
        if any(part is not None for part in biases):
            pairs = zip(weights, biases, strict=True)
            parts = [weight.new_zeros(len(w)) if b is None else b.detach().to(dtype) for w, b in pairs]
            bias = torch.cat(parts)
        self.shape = (weight.shape[0], weight.shape[1])  # out, in
        self.run = packed(weight, bias) or partial(F.linear, weight=weight, bias=bias)

    def __call__(self, x: torch.Tensor, rows: tuple[int, ...]) -> torch.Tensor:
        """Apply to x, block by block; `rows` are the blocks' sizes and sum to its rows."""
        if len(rows) == 1:
            return self.run(x)
        return torch.cat([self.run(part) for part in x.split_with_sizes(rows)])


def packed(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Pack a weight for oneDNN where it can run this type, else give None."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        ops = torch.ops.mkldnn
        reordered = ops._reorder_linear_weight(weight, 16)

        def run(x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = ops._linear_pointwise(x, reordered, bias, "none", [], "")
            return result

        run(weight.new_zeros(1, weight.shape[1]))
    except (RuntimeError, AttributeError):  # types and builds without it
        return None
    return run


@cache
def same_bits(
    shapes: frozenset[tuple[int, int]], reference: int, dtype: torch.dtype, device: torch.device
) -> tuple[int, ...]:
    """Find the numbers of rows at which layers of these shapes give the bits that blocks of `reference` rows give.

    Each output of the layers asked is a sum of terms that cancel, so what is left of it is rounding: another order of
    summation shows in every bit, where a true output would hide it behind its first eight (bf16).
    """
    sizes = [size for size in SIZES if size != reference]
    generator = torch.Generator().manual_seed(0)
    for out, width in shapes:
        half = torch.randn(out, width // 2, generator=generator)
        order = torch.randperm(width // 2 * 2, generator=generator)
        linear = Linear([torch.cat([half, -half], 1)[:, order].to(device)], [None], dtype)
        x = torch.randn(max(SIZES), width // 2, generator=generator).repeat(1, 2)[:, order].to(device, dtype)
        expected = torch.cat([linear.run(part) for part in x.chunk(max(SIZES) // reference)])
        sizes = [size for size in sizes if torch.equal(linear.run(x[:size]), expected[:size])]
    return tuple(sorted([*sizes, reference]))


@cache
def blocks(rows: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Cut a number of rows into allowed sizes, the last filled up: 37 of (1, 16, 32) -> (32, 16)."""
    if rows <= sizes[-1]:
        return (next(size for size in sizes if size >= rows),)
    return (sizes[-1], *blocks(rows - sizes[-1], sizes))
