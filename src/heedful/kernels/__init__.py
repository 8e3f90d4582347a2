"""Inner loops in C, made by the machine's own compiler for its own processor at first use, and kept.

Most functions exist twice, for bf16 and for fp32. Where `has` says no, as without a compiler or off the CPU, torch's
operations do the same work.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from heedful.errors import RunError
from heedful.system import machine, store

HERE = Path(__file__).parent
FLAGS = ["-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
SECONDS = 120  # time limit for each run of the compiler
LIBRARY = "kernels.so"
SIGNATURES = {  # p: address, i: whole number, f: fraction; the number of threads comes last; beside: the names in C
    "product": "pppppiii",  # x w bias more y | rows in out
    "norm": "ppppiiiifi",  # x w bias y | groups per stride width | eps | centred
    "rotate": "ppppiiii",  # x cos sin places | tokens heads stride width
    "gate": "pppiii",  # gate up y | rows width stride
    "attend": "ppppiiiiif",  # qkv cache places y | rows columns heads kv width | scale
    "norm_back": "ppppppiif",  # x w to_y to_x to_w factors | rows width | eps
    "gate_back": "pppppi",  # gate up to_y to_gate to_up | count
    "softmax": "ppiiiif",  # scores bias | heads queries keys stride | scale
    "softmax_back": "ppiif",  # to_weights weights | rows keys | scale
    "logsumexp": "ppii",  # logits z | rows width
    "nll_back": "ppppppppii",  # logits z of_row starts order target of to_logits | rows width
    "squares": "pipi",  # g | wide | sums | n
    "adamw": "ppipppifffffff",  # w g | wide | m v shown | n | keep rate beta1 beta2 root epsilon scale
}
SUFFIXES = {torch.bfloat16: "_bf16", torch.float32: "_fp32"}  # of functions that exist for both types
TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_long, "f": ctypes.c_float}


@cache
def compiled() -> ctypes.CDLL | None:
    """Return the functions of this folder's C files, compiled for this processor; None where that cannot be had."""
    compiler = next(filter(None, map(shutil.which, [os.environ.get("CC") or "cc", "gcc"])), None)
    if compiler is None:
        return None
    sources = sorted(HERE.glob("*.[ch]"))
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True)
        key = {
            "sources": {path.name: path.read_text(encoding="utf-8") for path in sources},
            "compiler": [version.stdout, *FLAGS],
            "processor": [machine.processor(), torch.backends.cpu.get_cpu_capability(), machine.instructions()],
        }
        folder = store.kept("kernels", key, lambda folder: _compile(compiler, folder)).folder
        return _declared(ctypes.CDLL(str(folder / LIBRARY)))
    except (OSError, subprocess.SubprocessError, RunError):
        return None


def has(dtype: torch.dtype, device: torch.device) -> bool:
    """Say whether the functions can be called with tensors of this type on this device."""
    return dtype in SUFFIXES and device.type == "cpu" and compiled() is not None


def multiplies_bf16() -> bool:
    """Say whether there is a compiled product in bf16; where it uses tiles, the system must grant them as well."""
    has_product = hasattr(compiled(), "product_bf16")
    return has_product and (not number("tiles") or bool(torch.cpu._init_amx()))


def call(name: str, *arguments: Any) -> None:
    """Call a function of the library with tensors, which must be contiguous, as their addresses; in torch's threads.

    Where it exists for both types, the first tensor's type decides.
    """
    given = [argument.data_ptr() if isinstance(argument, torch.Tensor) else argument for argument in arguments]
    _function(name, arguments[0].dtype)(*given, torch.get_num_threads())


def number(name: str) -> int:
    """Return what a function without arguments returns."""
    return int(getattr(compiled(), name)())


@cache
def _function(name: str, dtype: torch.dtype) -> Any:
    """Find a function by its name with the type's suffix, or by its name alone."""
    library, typed = compiled(), name + SUFFIXES.get(dtype, "")
    return getattr(library, typed if hasattr(library, typed) else name)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes what the functions take."""
    for name, letters in SIGNATURES.items():
        for function in (name, *(name + suffix for suffix in SUFFIXES.values())):
            if hasattr(library, function):
                getattr(library, function).argtypes = [*(TYPES[letter] for letter in letters), ctypes.c_long]
                getattr(library, function).restype = None
    return library


def _compile(compiler: str, folder: Path) -> dict[str, Any]:
    sources = [str(path) for path in sorted(HERE.glob("*.c"))]
    command = [compiler, *FLAGS, *sources, "-lm", "-o", str(folder / LIBRARY)]
    subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
    return {}
