"""A linear layer whose row of output is a function of its row of input alone, to the last bit.

The compiled products (`kernels/product.c`) sum every output in one order, however many rows there are. Elsewhere a
product picks its kernel by the number of rows, and kernels sum in different orders: then only those numbers of rows
are used that were seen to give the same bits (`same_bits`), and a batch is cut into blocks of them (`blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F

from heedful import kernels

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # numbers of rows to try
TILE = 32  # outputs and inputs that product_bf16 takes together


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
        self.product = Product(weight, bias) if has_compiled_product(weight) else None
        self.run = self.product or packed(weight, bias) or partial(F.linear, weight=weight, bias=bias)

    def __call__(self, x: torch.Tensor, rows: tuple[int, ...], more: torch.Tensor | None = None) -> torch.Tensor:
        """Apply to x, block by block, and add `more`; `rows` are the blocks' sizes and sum to its rows."""
        if self.product is not None:
            return self.product(x, more)
        y = self.run(x) if len(rows) == 1 else torch.cat([self.run(part) for part in x.split_with_sizes(rows)])
        return y if more is None else more + y


class Product:
    """A weight in the order in which the compiled product reads it; any number of rows gives the same bits."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out, width = weight.shape
        narrow = weight.dtype == torch.bfloat16
        panel = TILE if narrow else kernels.number("panel")
        self.missing = -width % TILE if narrow else 0  # inputs that must be filled up
        weight = F.pad(weight, (0, self.missing, 0, -self.out % panel))
        if narrow:  # panels, halves of each, outputs, depths, pairs of inputs, 2; tiles hold a half
            cut = weight.view(-1, 2, TILE // 2, weight.shape[1] // TILE, TILE // 2, 2)
            order = (0, 3, 1, 4, 2, 5) if kernels.number("tiles") else (0, 3, 4, 1, 2, 5)
            self.weight = cut.permute(order).contiguous()
        else:  # [panels, inputs, outputs]
            self.weight = weight.view(-1, panel, width).transpose(1, 2).contiguous()
        self.bias = None if bias is None else F.pad(bias.float(), (0, -self.out % panel))

    def __call__(self, x: torch.Tensor, more: torch.Tensor | None = None) -> torch.Tensor:
        """Return [rows, out] for contiguous x and `more`."""
        x = F.pad(x, (0, self.missing)) if self.missing else x
        y = x.new_empty(len(x), self.out)
        kernels.call("product", x, self.weight, self.bias, more, y, len(x), x.shape[1], self.out)
        return y


def has_compiled_product(weight: torch.Tensor) -> bool:
    """Say whether there is a compiled product for this weight."""
    if weight.device.type != "cpu" or kernels.compiled() is None:
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and kernels.multiplies_bf16())


def packed(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Pack a weight for oneDNN where it can run this type, instead of at every call; else give None."""
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

    The layers are made so that the terms of each output cancel and only rounding is left: another order of summation
    shows in every bit, where the output of a real layer would hide it behind its first eight (bf16).
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
    """Cut a number of rows into allowed sizes, the last filled up: 37 of (1, 16, 32) -> (32, 16); of () -> (37,)."""
    if not sizes:
        return (rows,)
    if rows <= sizes[-1]:
        return (next(size for size in sizes if size >= rows),)
    return (sizes[-1], *blocks(rows - sizes[-1], sizes))
