"""From a file of instructions to an assistant, on the machine you have.

The verbs of the command line under the same names, with the same defaults: `check`, `train`, `evaluate`, `compare`,
`generate`, `export`; and `load`, which opens a run or a model as an engine. Each imports what it needs when called.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedful.checking import check as check
    from heedful.comparing import compare as compare
    from heedful.pipeline import evaluate as evaluate
    from heedful.pipeline import export as export
    from heedful.pipeline import generate as generate
    from heedful.pipeline import load as load
    from heedful.pipeline import train as train

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the hub's client is imported, which is later
# Where a repository has no safetensors, transformers would ask another host to convert its weights, unless told not to.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
# GCC's OpenMP, which comes with torch, reads this when torch is imported. Its threads wait for each other busily, by
# default for 300,000 turns: where another program has one of the cores, that would be most of the time.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__version__ = "0.1.0"
__all__ = ["check", "compare", "evaluate", "export", "generate", "load", "train"]


def __getattr__(name: str) -> Any:
    if name == "check":
        return importlib.import_module("heedful.checking").check
    if name == "compare":
        return importlib.import_module("heedful.comparing").compare
    if name == "load":
        return importlib.import_module("heedful.pipeline").load
    if name in __all__:  # the stage's package, which can be called
        return importlib.import_module(f"heedful.{name}")
    raise AttributeError(f"module 'heedful' has no attribute '{name}'")
