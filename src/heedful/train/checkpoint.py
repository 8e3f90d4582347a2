"""Checkpoints: a directory that is whole, or does not exist.

`step-000123/` holds the trainable weights and the optimizer as safetensors and the progress as JSON. It is written
beside its place, its MANIFEST.json (sizes and sha256 of the rest) last, and then renamed. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from heedful.errors import RunError
from heedful.records import Progress
from heedful.run import sha256, sync, sync_directory

FORMAT = 1
MANIFEST = "MANIFEST.json"
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A restored checkpoint; `metrics_bytes` is how long metrics.jsonl was when it was taken."""

    path: Path
    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    progress: Progress
    metrics_bytes: int
    fingerprint: dict[str, str]


def write(
    folder: Path, weights: Tensors, moments: Tensors | None = None, state: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint directory, replacing one of the same name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        save_file(_contiguous(weights), temporary / "model.safetensors")
        if moments is not None:
            save_file(_contiguous(moments), temporary / "optimizer.safetensors")
        (temporary / "state.json").write_text(json.dumps(state or {}), encoding="utf-8")
        files = {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1), encoding="utf-8")
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                sync(handle)
        sync_directory(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(temporary, folder)
        sync_directory(folder.parent)
    except Exception as error:  # safetensors wraps a full disk in an error of its own
        shutil.rmtree(temporary, ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free
        raise RunError(
            f"Cannot write the checkpoint {folder}: {error}.",
            f"{free / 2**30:.1f} GiB are free there; --resume continues from the checkpoint before.",
        ) from error


def save(
    folder: Path,
    weights: Tensors,
    moments: Tensors,
    progress: Progress,
    metrics_bytes: int,
    fingerprint: Mapping[str, str],
) -> None:
    """Write all that an exact resume needs."""
    state = {"progress": asdict(progress), "metrics_bytes": metrics_bytes, "fingerprint": dict(fingerprint)}
    write(folder, weights, moments, state)


def newest(checkpoints: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Restore the newest checkpoint that is intact; `say` hears of each that is not."""
    _remove_leftovers(checkpoints)
    for folder in sorted(checkpoints.glob("step-*"), reverse=True):
        try:
            verify(folder)
            return restore(folder)
        except RunError as error:
            say(f"{error.problem} Going back to the one before.")
    return None


def verify(folder: Path) -> None:
    """Compare every file with the manifest, or say which one is bad."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, version = dict(manifest["files"]), int(manifest["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The checkpoint {folder} is incomplete: {MANIFEST} cannot be read.") from error
    if version > FORMAT:
        raise RunError(f"The checkpoint {folder} has format {version}; this heedful reads up to {FORMAT}.")
    for name, expected in files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != expected["bytes"] or sha256(file) != expected["sha256"]:
            raise RunError(f"The checkpoint {folder} is damaged: {name} is not what was written.")


def restore(folder: Path) -> Checkpoint:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(
        folder,
        load_file(folder / "model.safetensors"),
        load_file(folder / "optimizer.safetensors"),
        Progress(**state["progress"]),
        state["metrics_bytes"],
        state["fingerprint"],
    )


def prune(checkpoints: Path, keep: Path) -> None:
    """Remove older checkpoints; one that cannot be removed stays."""
    for folder in checkpoints.glob("step-*"):
        if folder.name < keep.name and (folder / MANIFEST).is_file():
            shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(checkpoints: Path) -> None:
    for folder in checkpoints.glob(".*.tmp-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _contiguous(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
