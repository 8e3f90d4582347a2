"""Where a run begins: its folder and its settings, new or taken up again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from heedful.address import redacted
from heedful.clean import check_unicode
from heedful.config import Config
from heedful.errors import UsageError, as_written
from heedful.run import (
    Run,
    holds_run,
    is_shipped,
    leave_directory,
    make_directory,
    open_run,
    run_at,
    slug,
)
from heedful.settings import Settings, leaves, load_config
from heedful.system.lock import LOCK, lock

Name = Path | str | None  # of data, a model, a recipe or a folder
MAY_CHANGE = {  # settings that a resumed run may be given anew: none of them touches what was learned so far
    "train.epochs", "train.max_steps", "train.patience", "train.log_every", "train.save_every", "train.sharding",
    "train.activation_checkpointing", "train.precision", "encode.batch_tokens", "evaluate.after_training",
    "evaluate.decides", "data.on_bad_row", "generate.batch_size", "generate.precision", "run.track",
}  # fmt: skip
# Settings that a run adapts to its machine and to its budget; provenance.json keeps what was first asked for.
FITTED, BUDGETED = ("train.precision", "encode.batch_tokens"), ("train.max_steps", "train.evaluate_every")
SETTLED = (*FITTED, "encode.layout")  # with what it adapts to its model


def configure(recipe: Name, settings: Settings, data: Name, model: Name | Run) -> Config:
    """Merge what was asked for: recipe < settings < the named data and model."""
    model = model.path if isinstance(model, Run) else model
    for what, name in (("data", data), ("model", model), ("recipe", recipe)):
        check_name(what, name)
    named = {leaf: str(value) for leaf, value in (("data.path", data), ("model.name", model)) if value is not None}
    return load_config(recipe, settings, named)


def check_name(what: str, name: Any) -> None:
    """Raise a UsageError for what the Python API was given in place of a name, and for one that is not text."""
    if not isinstance(name, (str, Path, type(None))):
        fix = "Write rows to a file first." if what == "data" else ""
        kinds = "a name, a path or a run" if what == "model" else "a name or a path"
        raise UsageError(f"{what} must be {kinds}, not of type {type(name).__name__}.", fix)
    check_unicode(what, name)


@contextmanager
def claim_folder(run: Run, resume: bool) -> Iterator[None]:
    """Hold the run's directory, which must be new or empty unless the run is resumed."""
    if not resume:
        _check_new(run)
    make_directory(run)
    with lock(run.path):
        if not resume:  # another process may have begun one before we had the lock
            _check_new(run)
        try:
            yield
        finally:
            if not holds_run(run):  # it failed before it began: the name is free again
                leave_directory(run)


def _check_new(run: Run) -> None:
    """Refuse a folder that is not empty; the leftovers of a run killed before it began do not count."""
    if holds_run(run):
        raise UsageError(f"{run.path} already holds a run.", "Add --resume to continue it, or choose another --out.")
    try:
        ours = {LOCK, "lost+found"} | ({run.checkpoints.name} if run.checkpoints.is_dir() else set())
        entries = [*run.path.iterdir(), *run.checkpoints.glob("*")] if run.path.is_dir() else []
    except OSError as error:
        raise UsageError(f"Cannot look into {run.path}: {error.strerror}.", "Choose another --out.") from error
    held = sorted(str(entry.relative_to(run.path)) for entry in entries if not entry.name.startswith("."))
    if foreign := [name for name in held if name not in ours]:
        raise UsageError(
            f"{run.path} is not empty and holds no run: there is {foreign[0]}.", "Choose a new folder with --out."
        )


def resolve_run(config: Config, out: Path | str | None, resume: bool) -> tuple[str, dict[str, Any]]:
    """Choose the run's directory and settle its settings, for all ranks."""
    if resume:
        run = newest_run(out)
        config = _continued(run, config)
    else:
        run = new_run(out, f"{config.model.name}-{Path(redacted(config.data.path, rest='')).stem}")
    return str(run.path), config.model_dump(mode="json")


def new_run(out: Path | str | None, stem: str) -> Run:
    """Name a run directory: `out`, or runs/STEM-NNN with the first free number."""
    if out is not None:
        return run_at(out)
    root, stem = Path("runs"), slug(stem)
    taken = {entry.name for entry in root.iterdir()} if root.is_dir() else set()
    number = next(n for n in range(1, len(taken) + 2) if f"{stem}-{n:03d}" not in taken)
    return Run(root / f"{stem}-{number:03d}")


def newest_run(out: Path | str | None) -> Run:
    """Open the run to resume: `out`, or the one of runs/ whose training wrote last."""
    if out is not None:
        return _begun(run_at(out))
    folders = {file.parent for name in ("config.yaml", LOCK) for file in Path("runs").glob(f"*/{name}")}
    if not folders:
        raise UsageError("There is no run to resume in runs/.", "Name it with --out.")
    return _begun(run_at(max(folders, key=_last_written)))


def _last_written(folder: Path) -> float:
    """Say when a training last wrote to a run's folder: its log, or what there is before the log begins.

    An evaluation takes the lock as well, and may change the settings; a line more in a file changes no folder's time.
    """
    for file in (Run(folder).metrics_file, Run(folder).config_file, folder / LOCK):
        with suppress(OSError):
            return file.stat().st_mtime
    return 0.0


def _begun(run: Run) -> Run:
    """Return a run that can be resumed; refuse one that was killed before it had anything to resume from."""
    if not holds_run(run) and (run.path / LOCK).is_file():
        raise UsageError(
            f"{run.path} has not begun to train, so there is nothing to resume.",
            "Give its command again without --resume, or name another run with --out.",
        )
    return open_run(run)


def _continued(run: Run, asked: Config) -> Config:
    """Return the interrupted run's settings with what may change changed; refuse the rest, each by name."""
    named, at_first = leaves(asked, only_named=True), run.provenance().get("asked", {})
    settled = {  # by the run, since
        leaf
        for leaf in named.keys() & at_first.keys()
        if named[leaf] == at_first[leaf] and (leaf not in FITTED or named[leaf] == "auto")
    }
    may_change = MAY_CHANGE - ({"evaluate.decides"} if run.is_scored else set())
    wanted = {leaf: named[leaf] for leaf in sorted(named.keys() - settled)}  # even if it is the default
    typed, before = leaves(run.config()), leaves(run.located(run.config()))
    changes: dict[str, Any] = {}
    refused = []
    for leaf, value in wanted.items():
        if leaf in may_change:
            changes[leaf] = value
        elif value == before[leaf] or _is_same(leaf, value, typed[leaf], before[leaf]):
            continue
        elif leaf == "data.path" and run.began_with(value):  # moved
            changes[leaf] = os.path.abspath(os.path.expanduser(value))
        else:
            refused.append(f"{leaf} was {redacted(as_written(before[leaf]))}, now {redacted(as_written(value))}")
    if refused:
        raise UsageError(f"Cannot resume {run.path} with other settings: {'; '.join(refused)}.", "Start another run.")
    return run.config(changes)


def _is_same(leaf: str, now: Any, typed: Any, before: Any) -> bool:
    """Say whether the data or the model of a run is named as it was typed, or by another name of the same file."""
    if leaf not in ("data.path", "model.name"):
        return False
    here, there = (os.path.expanduser(name) for name in (now, before))
    if not is_shipped(now) and os.path.exists(here):
        return not is_shipped(before) and os.path.exists(there) and os.path.samefile(here, there)
    return bool(now == typed)
