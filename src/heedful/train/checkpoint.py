"""Checkpoints: a directory that is whole, or does not exist.

`step-000123/` holds the trainable weights and the optimizer as safetensors and the progress as JSON. It is written
beside its place, its MANIFEST.json (sizes and sha256 of the rest) last, and then renamed. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from heedful.errors import RunError
from heedful.records import Progress
from heedful.system.atomic import MANIFEST, changed_file, list_files, remove_leftovers, whole_folder

FORMAT = 1
KEPT_CHECKPOINTS = 2  # checkpoints that stay: the newest, and one to go back to should that be damaged
NEEDED = ("model.safetensors", "state.json")  # whatever the manifest lists
Tensors = Mapping[str, torch.Tensor]


class Damaged(RunError):
    """A checkpoint that is not what was written."""


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
    try:
        with whole_folder(folder) as temporary:
            save_file(_contiguous(weights), temporary / "model.safetensors")
            if moments is not None:
                save_file(_contiguous(moments), temporary / "optimizer.safetensors")
            (temporary / "state.json").write_text(json.dumps(state or {}), encoding="utf-8")
            manifest = {"format": FORMAT, "files": list_files(temporary)}
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    except Exception as error:  # safetensors wraps a full disk in an error of its own
        free = shutil.disk_usage(folder.parent.parent).free
        resumed = "continues from the checkpoint before" if _in_order(folder.parent, "step") else "begins again"
        raise RunError(
            f"Cannot write the checkpoint {folder}: {error}.",
            f"{free / 2**30:.1f} GiB are free there; --resume {resumed}.",
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


def say_if_short(
    checkpoints: Path, trained: Iterable[torch.Tensor], keeps_best: bool, say: Callable[[str], None]
) -> None:
    """Say so where a disk may be too small for what training writes: the states that stay and one that is being
    written, each with the best weights of its time if those are kept."""
    weights = 4 * sum(weight.numel() for weight in trained)  # bytes in fp32; a state has two moments of each as well
    folder = checkpoints if checkpoints.is_dir() else checkpoints.parent  # it may be a link to another disk
    most, free = (KEPT_CHECKPOINTS + 1) * (3 + keeps_best) * weights, shutil.disk_usage(folder).free
    if free < most:
        say(
            f"Checkpoints may take up to {most / 2**30:.1f} GiB at a time in {folder}, where {free / 2**30:.1f} GiB "
            "are free: make room, or stop (Ctrl-C) and choose another --out."
        )


def newest(checkpoints: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Restore the newest checkpoint that is intact; `say` hears of each that is not."""
    remove_leftovers(checkpoints)
    for folder in reversed(_in_order(checkpoints, "step")):
        try:
            verify(folder)
            return restore(folder)
        except Damaged as error:
            say(f"{error.problem} Going back to the one before.")
    return None


def verify(folder: Path) -> None:
    """Compare every file with the manifest, or say which one is bad."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = int(manifest["format"]), dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"The checkpoint {folder} is incomplete: {MANIFEST} cannot be read.", f"Remove {folder}."
        ) from error
    if version > FORMAT:
        raise RunError(
            f"The checkpoint {folder} has format {version}; this heedful reads up to {FORMAT}.", "Use a newer heedful."
        )
    if changed := changed_file(folder, dict.fromkeys(NEEDED) | files):
        raise Damaged(f"The checkpoint {folder} is damaged: {changed} is not what was written.", f"Remove {folder}.")


def restore(folder: Path) -> Checkpoint:
    """Read a checkpoint that was verified."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(
        folder,
        load_file(folder / "model.safetensors"),
        load_file(folder / "optimizer.safetensors"),
        Progress(**state["progress"]),
        state["metrics_bytes"],
        state["fingerprint"],
    )


def prune(checkpoints: Path, kept_steps: int = KEPT_CHECKPOINTS) -> None:
    """Keep the newest checkpoints, the weights that were best when each was saved, and the best; remove the rest."""
    steps, bests = _in_order(checkpoints, "step"), _in_order(checkpoints, "best")
    kept = {*steps[-kept_steps:], *bests[-1:]}
    for saved in map(_step, steps[-kept_steps:]):
        kept |= {*[folder for folder in bests if _step(folder) <= saved][-1:]}
    for folder in {*steps, *bests} - kept:
        shutil.rmtree(folder, ignore_errors=True)


def best(checkpoints: Path) -> Path | None:
    """Find the weights of the lowest validation loss: each that is written is better than those before."""
    return next(reversed(_in_order(checkpoints, "best")), None)


def best_loss(checkpoints: Path, losses: Iterable[float]) -> float:
    """Return the loss of the best weights, infinite where none are kept; where it is not written beside them, the
    lowest of all `losses`. Raise Damaged where they are not what was written."""
    found = best(checkpoints)
    if found is None:
        return math.inf
    verify(found)
    state = json.loads((found / "state.json").read_text(encoding="utf-8"))
    return float(state["loss"]) if "loss" in state else min(losses, default=math.inf)


def forget_after(checkpoints: Path, step: int) -> None:
    """Remove what a lost part of the run left behind, beyond the step that it resumes from."""
    for kind in ("best", "step"):
        for folder in _in_order(checkpoints, kind):
            if _step(folder) > step:
                shutil.rmtree(folder, ignore_errors=True)


def _in_order(checkpoints: Path, kind: str) -> list[Path]:
    """List the directories KIND-NUMBER by their number; anything else there is not ours."""
    ours = (f for f in checkpoints.glob(f"{kind}-*") if f.is_dir() and re.fullmatch(rf"{kind}-\d+", f.name))
    return sorted(ours, key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _contiguous(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
