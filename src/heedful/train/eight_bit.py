"""AdamW whose moments take 8 bits a number instead of 32: blocks with a scale each, by bitsandbytes (the extra `gpu`).

The update is the usual one: a piece of the moments is opened to fp32, changed, and closed again. Dettmers et al. 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from heedful.config import TrainConfig
from heedful.train.optimizer import PIECE, MasterAdamW, Tensors

BLOCK = 256  # numbers that share a scale
FEWEST = 4096  # numbers of a weight whose moments are worth packing; vectors stay as they are
SIGNED = {"exp_avg": True, "exp_avg_sq": False}


class EightBitAdamW(MasterAdamW):
    """`MasterAdamW` with packed moments; a checkpoint holds them packed, so that resuming changes no bit."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], config: TrainConfig, dtype: torch.dtype) -> None:
        from bitsandbytes.functional import create_dynamic_map

        super().__init__(parameters, config, dtype)
        self.codes = {kind: create_dynamic_map(signed=signed) for kind, signed in SIGNED.items()}
        packed = {name: master for name, master in self.masters.items() if master.numel() >= FEWEST}
        self.scales: dict[str, Tensors] = {
            kind: {name: torch.zeros(-(-m.numel() // BLOCK), device=m.device) for name, m in packed.items()}
            for kind in SIGNED
        }
        self.kinds |= {f"{kind}_scale": scales for kind, scales in self.scales.items()}

    def blank(self, master: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(master, dtype=torch.float32 if master.numel() < FEWEST else torch.uint8)

    def moments(self, name: str) -> Iterator[tuple[torch.Tensor, ...]]:
        if name not in self.scales["exp_avg"]:
            yield from super().moments(name)
            return
        packed = [torch.split(self.kinds[kind][name].view(-1), PIECE) for kind in SIGNED]
        scales = [torch.split(self.scales[kind][name], PIECE // BLOCK) for kind in SIGNED]
        for first, second, first_scale, second_scale in zip(*packed, *scales, strict=True):
            opened = (self._opened("exp_avg", first, first_scale), self._opened("exp_avg_sq", second, second_scale))
            yield opened
            self._close("exp_avg", opened[0], first, first_scale)
            self._close("exp_avg_sq", opened[1], second, second_scale)

    def _opened(self, kind: str, packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        from bitsandbytes.functional import dequantize_blockwise

        code = self.codes[kind] = self.codes[kind].to(packed.device)
        opened: torch.Tensor = dequantize_blockwise(packed, absmax=scale, code=code, blocksize=BLOCK)
        return opened

    def _close(self, kind: str, opened: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor) -> None:
        from bitsandbytes.functional import quantize_blockwise

        fresh, state = quantize_blockwise(opened, code=self.codes[kind], blocksize=BLOCK)
        packed.copy_(fresh)
        scale.copy_(state.absmax)
