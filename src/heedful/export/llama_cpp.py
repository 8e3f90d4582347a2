"""llama.cpp itself, asked by way of node-llama-cpp, a package of npm that brings it prebuilt.

It is not part of heedful. Where it is installed, it reads an exported GGUF file, tokenises texts and answers prompts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from heedful.errors import ExportError, typed
from heedful.system.store import cache_home

SCRIPT = Path(__file__).with_suffix(".mjs")
INSTALL = (
    "npm install --prefix {home} --ignore-scripts --omit=optional "
    "node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1"
)
PATIENCE = 1800  # seconds


@dataclass(frozen=True)
class Said:
    """What llama.cpp made of a file: token ids of texts, which stop ids end its answers, answers up to one of them."""

    ids: list[list[int]]
    stops: list[int]
    answers: list[list[int]]
    seconds: list[float]  # of each answer
    peak_mib: float


def home() -> Path:
    """Return the folder into which npm installed it; HEEDFUL_LLAMA_CPP names another."""
    return Path(os.environ.get("HEEDFUL_LLAMA_CPP") or cache_home() / "llama.cpp").expanduser()


def missing() -> str:
    """Say in a sentence what is missing to ask llama.cpp; "" if nothing is."""
    if shutil.which("node") is None:
        return "there is no node on the PATH"
    return "" if _package().is_file() else f"node-llama-cpp is not installed ({INSTALL.format(home=typed(home()))})"


def ask(
    file: Path, texts: Sequence[str], prompts: Sequence[Sequence[int]], tokens: int, stop_ids: Collection[int]
) -> Said:
    """Let llama.cpp tokenise texts, special tokens and all, and answer prompts greedily with at most `tokens`."""
    task = {
        "package": _package().resolve().as_uri(),
        "model": str(file.resolve()),
        "threads": torch.get_num_threads(),
        "texts": list(texts),
        "prompts": [list(prompt) for prompt in prompts],
        "tokens": tokens,
        "stop_ids": sorted(stop_ids),
    }
    command = [str(shutil.which("node")), str(SCRIPT)]
    try:
        ran = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise ExportError(f"llama.cpp did not finish with {file.name} within {PATIENCE:,} seconds.") from None
    try:
        return Said(**json.loads(ran.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        reason = next((line for line in ran.stderr.splitlines() if line.strip()), f"exit code {ran.returncode}")
        raise ExportError(f"llama.cpp cannot use {file.name}: {reason.strip()}") from None


def _package() -> Path:
    return home() / "node_modules" / "node-llama-cpp" / "dist" / "index.js"
