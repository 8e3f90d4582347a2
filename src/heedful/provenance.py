"""What a run came from, as written to its provenance.json."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
import sys
import time
from collections.abc import Mapping
from typing import Any

from heedful import __version__, kernels
from heedful.address import redacted
from heedful.run import Run
from heedful.system import machine

VECTORS = ("avx", "amx", "asimd", "sve")  # instructions that products are made of, as /proc/cpuinfo names them
KEPT = ("id", "folder", "asked", "scored")  # kept when a run starts over: where names were typed, what is known of it


def provenance(run: Run, step: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what a run came from: versions, hardware, command and the given facts.

    A resumed run keeps how it began, gets the facts that were lost, and adds an entry for this resume, with its step.
    """
    packages = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy")
    now = {
        "id": secrets.token_hex(8),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [redacted(word) for word in sys.argv],
        "folder": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": machine.processor(),
        "vector_instructions": [name for name in machine.instructions().split() if name.startswith(VECTORS)],
        "cpus": machine.cores(),
        "memory": machine.memory(),
        "gpus": machine.gpus(),
        "compiled_kernels": kernels.compiled() is not None,
        "packages": {"heedful": __version__} | {name: importlib.metadata.version(name) for name in packages},
        **facts,
    }
    began = run.provenance()
    if step == 0 or not began:
        return now | {name: began[name] for name in KEPT if name in began}
    return {**facts, **began, "resumed": [*began.get("resumed", ()), {"step": step, **now}]}
