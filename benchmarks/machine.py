"""The machine and the versions that figures belong to."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "amx_tile")
PACKAGES = ("heedful", "torch", "transformers", "accelerate", "peft", "trl", "datasets", "gguf")


def machine() -> dict[str, Any]:
    """Describe the processor by what matters for matrices, and the memory."""
    described = _proc("/proc/cpuinfo")
    flags = set(described.get("flags", "").split())
    return {
        "processor": described.get("model name", platform.processor()),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(int(_proc("/proc/meminfo").get("MemTotal", "0 kB").split()[0]) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(scratch: Path) -> dict[str, str]:
    """Return the versions of Python and of every library that is raced; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    package = scratch / "node_modules" / "node-llama-cpp" / "package.json"
    if package.is_file():
        found["node-llama-cpp"] = json.loads(package.read_text(encoding="utf-8"))["version"]
    return found


def sources() -> str:
    """Hash heedful's code: figures of other code are not continued."""
    spec = importlib.util.find_spec("heedful")
    assert spec is not None and spec.origin is not None
    folder, digest = Path(spec.origin).parent, hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".py", ".c", ".h"}):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str | None:
    """Name the commit of this checkout, with `-dirty` where files were changed since; None where git does not know."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    ran = subprocess.run(command, capture_output=True, text=True) if shutil.which("git") else None
    return ran.stdout.strip() or None if ran else None


def pin(threads: int) -> dict[str, str]:
    """Bind this process and its children to as many cores; give the variables that say so to every library."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {name: str(threads) for name in names}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _proc(path: str) -> dict[str, str]:
    """Read a `name: value` file of the kernel; the first value of each name."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in reversed(text.splitlines()))
    return {name.strip(): value.strip() for name, _, value in pairs}
