"""AdamW over fp32 masters, of which the model computes with a copy in its own precision.

bf16 holds 8 bits of a number: an update of 1e-4 of a weight would be lost in it. So every trained weight has a master
in fp32 that is updated, and is rounded into the model after each update. In fp32 the weight is its own master.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch.distributed.tensor import DTensor

from heedful import kernels
from heedful.config import TrainConfig

PIECE = 2**20  # numbers of a weight that are updated at a time, so that they stay in the cache between the passes
BETAS, EPSILON = (0.9, 0.999), 1e-8

Tensors = dict[str, torch.Tensor]
Fill = Callable[[torch.Tensor, torch.Tensor | None], None]


class _Piece(NamedTuple):
    """As much of a weight as stays in the cache while it is updated."""

    first: torch.Tensor
    second: torch.Tensor
    master: torch.Tensor
    gradient: torch.Tensor
    copy: torch.Tensor  # the model's, in its own precision


class MasterAdamW:
    """Decoupled weight decay (Loshchilov & Hutter 2019) on masters, by the compiled kernel or torch's fused one."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], config: TrainConfig, dtype: torch.dtype) -> None:
        """Take the parameters, in fp32, as masters; leave copies of them in `dtype` in the model."""
        self.parameters = parameters
        self.masters: Tensors = {name: p.detach() for name, p in parameters.items()}
        for p in parameters.values():
            if p.dtype != dtype:
                p.data = p.data.to(dtype)
        self.first = {name: self.blank(master) for name, master in self.masters.items()}
        self.second = {name: self.blank(master) for name, master in self.masters.items()}
        self.steps = {name: torch.zeros((), device=master.device) for name, master in self.masters.items()}
        device = next(iter(self.masters.values())).device
        self.compiled = device.type == "cpu" and kernels.compiled() is not None
        self.scratch = torch.empty(0 if self.compiled else PIECE, device=device)  # one, so that it stays in the cache
        self.kinds = {"step": self.steps, "exp_avg": self.first, "exp_avg_sq": self.second}  # named as in checkpoints
        self.sums: Tensors = {}  # of gradients, in fp32, while an update takes several forwards
        decayed = {name for name, master in self.masters.items() if master.ndim >= 2 or config.decay_vectors}
        self.decay = {name: config.weight_decay if name in decayed else 0.0 for name in self.masters}

    def blank(self, master: torch.Tensor) -> torch.Tensor:
        """Return a moment of a weight before the first update."""
        return torch.zeros_like(master)

    def moments(self, name: str) -> Iterator[tuple[torch.Tensor, ...]]:
        """Return a weight's two moments, a piece at a time, to be changed in place until the next is asked for."""
        both = (self.first[name], self.second[name])
        yield from zip(*(torch.split(_local(moment).view(-1), PIECE) for moment in both), strict=True)

    def fold(self) -> None:
        """Add the gradients of one forward of several to their sums, which bf16 could not hold."""
        for name, p in self.parameters.items():
            if p.grad is not None:
                self.sums[name] = self.sums[name].add_(p.grad) if name in self.sums else p.grad.float()
                p.grad = None

    def norm(self, total: Callable[[float], float] = float) -> float:
        """Return the norm of the whole gradient; `total` adds up squares over ranks that share it out."""
        squares = torch.zeros((), dtype=torch.float64)
        for _, gradient in self.gradients():
            squares += self._squares(_local(gradient).view(-1)).cpu()
        return math.sqrt(total(float(squares)))

    def step(self, lr: float, scale: float = 1.0) -> None:
        """Update masters and model with the gradient times `scale`, which uses the gradient up."""
        for name, gradient in self.gradients():
            self.steps[name] += 1
            whole = self.masters[name], gradient, self.parameters[name].data
            pieces = (torch.split(_local(tensor).view(-1), PIECE) for tensor in whole)
            for moments, *others in zip(self.moments(name), *pieces, strict=True):
                self._update(name, _Piece(*moments, *others), lr, scale)

    def _squares(self, gradient: torch.Tensor) -> torch.Tensor:
        """Add up the squares of a gradient."""
        if self.compiled:
            sums = torch.empty(-(-len(gradient) // kernels.number("block")), dtype=torch.float64)
            kernels.call("squares", gradient, gradient.dtype == torch.float32, sums, len(gradient))
            return sums.sum()
        numbers = map(self._wide, torch.split(gradient, PIECE))
        return torch.stack([torch.dot(some, some) for some in numbers]).double().sum()

    def _update(self, name: str, piece: _Piece, lr: float, scale: float) -> None:
        """Update a piece of a weight, its moments, and the model's copy of it."""
        first, second, master, gradient, copy = piece
        narrow = copy.dtype != master.dtype
        if self.compiled:
            step = int(self.steps[name])
            rate, root = lr / (1 - BETAS[0] ** step), math.sqrt(1 - BETAS[1] ** step)
            kernels.call(
                "adamw", master, gradient, gradient.dtype == torch.float32, first, second, copy if narrow else None,
                len(master), 1 - lr * self.decay[name], rate, *BETAS, root, EPSILON, scale,
            )  # fmt: skip
            return
        divisor = None if scale == 1.0 else torch.full((), 1 / scale, device=self.scratch.device)
        torch._fused_adamw_(  # what torch.optim.AdamW(fused=True) calls
            [master], [self._wide(gradient)], [first], [second], [], [self.steps[name]],
            lr=lr, beta1=BETAS[0], beta2=BETAS[1], weight_decay=self.decay[name], eps=EPSILON,
            amsgrad=False, maximize=False, grad_scale=divisor,
        )  # fmt: skip
        if narrow:
            copy.copy_(master)

    def clear(self) -> None:
        """Forget the gradient."""
        self.sums.clear()
        for p in self.parameters.values():
            p.grad = None

    def state(self) -> Tensors:
        """Return the moments as `parameter.moment`, with those weights left out that never had a gradient."""
        moved = [name for name in self.masters if self.steps[name] > 0]
        kinds = self.kinds.items()
        return {f"{name}.{kind}": tensors[name] for name in moved for kind, tensors in kinds if name in tensors}

    def load(self, weights: Mapping[str, torch.Tensor], moments: Mapping[str, torch.Tensor], fill: Fill) -> None:
        """Continue from saved masters and moments; `fill` takes one to where it belongs, None where none was saved."""
        for name, master in self.masters.items():
            fill(master, weights.get(name))
            for kind, tensors in self.kinds.items():
                if name in tensors:
                    fill(tensors[name], moments.get(f"{name}.{kind}"))
            self.parameters[name].data.copy_(master)

    def _wide(self, piece: torch.Tensor) -> torch.Tensor:
        """Return a piece of a gradient in fp32: itself, or a copy that lasts until the next."""
        return piece if piece.dtype == torch.float32 else self.scratch[: piece.numel()].copy_(piece)

    def gradients(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Return every weight's gradient that there is, in the weights' order, in the precision it was summed in."""
        if self.sums:
            self.fold()
            yield from ((name, self.sums[name]) for name in self.parameters if name in self.sums)
            return
        yield from ((name, p.grad) for name, p in self.parameters.items() if p.grad is not None)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's share of a tensor that is shared out, and any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
