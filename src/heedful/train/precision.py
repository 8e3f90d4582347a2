"""What matrices are multiplied in: bf16 where the hardware does it natively, fp32 elsewhere."""

from __future__ import annotations

from typing import Literal

import torch

from heedful.config import TrainConfig
from heedful.errors import UsageError


def native_bf16() -> bool:
    """Say whether this machine multiplies bf16 matrices in hardware; emulation is slower than fp32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(precision: Literal["auto", "fp32", "bf16"], leaf: str = "train.precision") -> Literal["fp32", "bf16"]:
    """Choose the precision that a setting asks for, or refuse one that the hardware lacks."""
    if precision == "bf16" and not native_bf16():
        raise UsageError(
            f"{leaf}=bf16, but this processor has no native bf16 (avx512_bf16 or amx_bf16).",
            "Leave it at auto, or set fp32: emulated bf16 is several times slower.",
        )
    if precision == "auto":
        return "bf16" if native_bf16() else "fp32"
    return precision


def dtype_of(config: TrainConfig) -> torch.dtype:
    """Return the type that a training multiplies in."""
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[resolve(config.precision)]
