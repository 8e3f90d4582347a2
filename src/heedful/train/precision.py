"""What matrices are multiplied in: bf16 where that is faster on this machine, fp32 elsewhere."""

from __future__ import annotations

import copy
import statistics
from functools import cache
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from heedful.config import TrainConfig
from heedful.errors import RunError, UsageError
from heedful.system import machine, store

PAYS = 1.25  # times the speed of fp32, which rounds less
TIMES = 3
Precision = Literal["fp32", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def native_bf16() -> bool:
    """Say whether this processor multiplies bf16 matrices in hardware; emulation is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(
    precision: Literal["auto"] | Precision, leaf: str = "train.precision", gpu: bool | None = None
) -> Precision:
    """Choose the precision that a setting asks for, or refuse one that the hardware lacks.

    `gpu` says whether it computes on a GPU; by default it does where there is one, as trainings do.
    """
    gpu = torch.cuda.is_available() if gpu is None else gpu
    native = bool(torch.cuda.is_bf16_supported(including_emulation=False)) if gpu else native_bf16()
    if precision == "bf16" and not native:
        hardware = "GPU has no native bf16" if gpu else "processor has no native bf16 (avx512_bf16 or amx_bf16)"
        raise UsageError(
            f"{leaf}=bf16, but this {hardware}.", f"Set {leaf}=fp32: emulated bf16 is several times slower."
        )
    if precision == "auto":
        return "bf16" if native and (gpu or bf16_pays()) else "fp32"
    return precision


def dtype_of(config: TrainConfig) -> torch.dtype:
    """Return the type that a training multiplies in."""
    return DTYPES[resolve(config.precision)]


def convert_buffers(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give the buffers that no file holds the types that they have in a model built in `dtype`.

    So the angles of positions stay in fp32, but no mask in fp32 turns what it is multiplied with into fp32.
    """
    with torch.device("meta"):
        built = dict(type(model)._from_config(copy.deepcopy(model.config), dtype=dtype).named_buffers())
    kept = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in built and name not in kept:
            buffer.data = buffer.data.to(built[name].dtype)


@cache
def bf16_pays() -> bool:
    """Say whether this processor multiplies bf16 matrices clearly faster than fp32 ones.

    Some with instructions for it do not: without tiles (AMX) they may take twice as long. What was measured is kept for
    the machine, so that each command chooses alike, and a run's answers are the same in all of them.
    """
    key = {"processor": machine.processor(), "instructions": machine.instructions(), "torch": torch.__version__}
    try:
        return bool(store.kept("precision", key, lambda folder: _measure()).facts["pays"])
    except RunError:  # nothing can be kept
        return bool(_measure()["pays"])


def _measure() -> dict[str, Any]:
    """Compare the two in turn, a few times: what else the machine does may slow down one of them."""
    rate, shape = machine.matmul_rate, machine.STEP
    ratios = [rate("bf16", shape) / rate("fp32", shape) for _ in range(TIMES)]
    return {"pays": statistics.median(ratios) > PAYS, "bf16_to_fp32": ratios}
