"""What a GPU has to offer: its memory, and settings that need one and bitsandbytes, from the extra `gpu`."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from heedful.config import PACKED, TrainConfig
from heedful.errors import UsageError, install_extra


def check_gpu(config: TrainConfig) -> None:
    """Refuse what this machine cannot train for want of a GPU or of bitsandbytes."""
    wanted = " and ".join(f"train.{key}={value}" for key, value in PACKED.items() if getattr(config, key) == value)
    if wanted and not torch.cuda.is_available():
        raise UsageError(
            f"{wanted} needs an NVIDIA GPU, which this machine does not have (or torch does not see).",
            "Leave it out: --method lora needs little memory too.",
        )
    if wanted and find_spec("bitsandbytes") is None:
        raise UsageError(f"{wanted} needs bitsandbytes.", install_extra("gpu"))


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU's memory that can still be had: what nobody holds, and what torch holds unused."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused
