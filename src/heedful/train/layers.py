"""A layer's small operations in one compiled pass each, forward and backward (`kernels/backward.h`).

A framework computes an RMSNorm in eight operations and its gradient in twenty, each of which walks through memory: at
some hundred tokens they take nearly as long as the matrix products. A module is given the compiled function only if it
is seen to compute the same; anything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.activations import NewGELUActivation, SiLUActivation

from heedful import kernels

Function = Callable[[torch.Tensor], torch.Tensor]


def fuse_layers(model: nn.Module) -> None:
    """Give a model's norms and gated layers fused kernels, where it is on a CPU and there is a compiler."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:  # eight operations, of which torch has one kernel
                setattr(module, name, nn.GELU(approximate="tanh"))
        ours = _norm(module) or _gated(module)
        if ours is not None and _same(module, *ours):
            module.forward = ours[0]


class Norm(torch.autograd.Function):
    """x / sqrt(mean of squares + eps) * weight over the last dimension (Zhang & Sennrich 2019)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps, width, y = eps, x.shape[-1], torch.empty_like(x)
        kernels.call("norm", x, weight, None, y, x.numel() // width, 1, width, width, eps, 0)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        to_y, width = gradients[0].contiguous(), x.shape[-1]
        to_x, to_weight, rows = torch.empty_like(x), torch.empty_like(weight), x.numel() // width
        kernels.call("norm_back", x, weight, to_y, to_x, to_weight, torch.empty(rows), rows, width, ctx.eps)
        return to_x, to_weight, None


class Gate(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        y, width = torch.empty_like(gate), gate.shape[-1]
        kernels.call("gate", gate, up, y, gate.numel() // width, width, width)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        gate, up = ctx.saved_tensors
        to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
        kernels.call("gate_back", gate, up, gradients[0].contiguous(), to_gate, to_up, gate.numel())
        return to_gate, to_up


def _norm(module: Any) -> tuple[Function, int] | None:
    """Return the compiled forward of an RMSNorm, and the width of its input."""
    if not type(module).__name__.endswith("RMSNorm") or not hasattr(module, "variance_epsilon"):
        return None
    usual, eps = module.forward, float(module.variance_epsilon)

    def forward(x: torch.Tensor) -> torch.Tensor:
        if not kernels.has(x.dtype, x.device) or x.dtype != module.weight.dtype:
            return usual(x)  # type: ignore[no-any-return]
        return Norm.apply(x, module.weight, eps)  # type: ignore[no-any-return, no-untyped-call]

    return forward, len(module.weight)


def _gated(module: Any) -> tuple[Function, int] | None:
    """Return the compiled forward of a gated layer, and the width of its input."""
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(isinstance(part, nn.Module) for part in parts):  # where experts share a matrix, it is a Parameter
        return None
    if not isinstance(getattr(module, "act_fn", None), nn.SiLU | SiLUActivation):
        return None
    usual = module.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        gate, up = module.gate_proj(x), module.up_proj(x)
        if not kernels.has(gate.dtype, gate.device) or gate.dtype != up.dtype:
            return usual(x)  # type: ignore[no-any-return]
        mixed: torch.Tensor = Gate.apply(gate, up)  # type: ignore[no-untyped-call]
        return module.down_proj(mixed)  # type: ignore[no-any-return]

    return forward, module.gate_proj.in_features


def _same(module: Any, forward: Function, width: int) -> bool:
    """Say whether a module computes what a compiled function does, up to rounding."""
    weight = next(module.parameters())
    if not kernels.has(weight.dtype, weight.device):
        return False
    x = torch.linspace(-2, 2, 2 * width, dtype=weight.dtype, device=weight.device).reshape(1, 2, width)
    with torch.no_grad():
        ours, theirs = forward(x).float(), module(x).float()
    rounding = 16 * torch.finfo(weight.dtype).eps
    return bool((ours - theirs).abs().max() <= rounding * theirs.abs().max())
