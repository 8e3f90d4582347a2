"""What is kept between runs: one folder for each thing made, named for all that it was made from.

A folder counts when its manifest, which is written last, holds the size and sha256 of every file in it. A damaged one
is made again; one without a manifest is unfinished, and its maker may go on from what is there. One process makes a
thing while others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from heedful.errors import RunError
from heedful.system.atomic import MANIFEST, advice, is_closed, list_files, sha256, sync_files, write_json

UNUSED_DAYS = 30  # what nobody opened for so long is removed
OURS = re.compile("[0-9a-f]{32}")  # names of the folders that are kept
SET_HOME = "set HEEDFUL_HOME to another folder"
Made = TypeVar("Made")


def cache_home() -> Path:
    """Return the folder for what is made or downloaded once; HEEDFUL_HOME moves it."""
    if named := os.environ.get("HEEDFUL_HOME"):
        return Path(os.path.expanduser(named))
    try:
        return Path("~/.cache/heedful").expanduser()
    except RuntimeError:  # a user without a name, as in some containers: other programs take / for its home
        return Path("/.cache/heedful")


class Kept(NamedTuple):
    """A thing that is kept: its folder, what its maker told of it, and whether it was there before."""

    folder: Path
    facts: dict[str, Any]
    found: bool


def kept(kind: str, key: Mapping[str, Any], make: Callable[[Path], dict[str, Any]], hashed: bool = True) -> Kept:
    """Return what is kept for `key`, calling `make(folder)` for the facts if it is missing or damaged.

    `hashed=False` checks sizes only, for large files. Raise RunError if it cannot be written.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]  # as in OURS
    try:
        return in_home(lambda home: _kept(home / kind / name, make, hashed))
    except OSError as error:
        problem = f"Cannot keep {kind} in {writable_home()}: {error.strerror or error}."
        raise RunError(problem, advice(error, SET_HOME)) from error


def _kept(folder: Path, make: Callable[[Path], dict[str, Any]], hashed: bool) -> Kept:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock")):
        facts = _whole(folder, hashed)
        if facts is not None:
            return Kept(folder, facts, found=True)
        _remove_unused(folder.parent)
        folder.mkdir(exist_ok=True)
        facts = make(folder)
        _seal(folder, facts)
        return Kept(folder, facts, found=False)


def in_home(work: Callable[[Path], Made]) -> Made:
    """Work in the cache, or in a folder that dies with this process where a part of the cache is closed to us."""
    try:
        return work(writable_home())
    except OSError as error:
        if not is_closed(error):
            raise
        return work(Path(_short_lived().name))


def writable_home() -> Path:
    """Return the cache, or a folder that dies with the process where the cache cannot be written."""
    home = cache_home()
    with suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
    return home if os.access(home, os.W_OK) else Path(_short_lived().name)


@cache
def _short_lived() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="heedful-")


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Wait until no other process works on the same thing; the lock dies with it. The file may be another user's."""
    with open(file, "rb" if file.exists() and not os.access(file, os.W_OK) else "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write the manifest: from here on the folder counts."""
    sync_files(folder)
    files = {name: [file["bytes"], file["sha256"]] for name, file in list_files(folder).items()}
    write_json(folder / MANIFEST, {"files": files, "facts": facts})


def _whole(folder: Path, hashed: bool) -> dict[str, Any] | None:
    """Return the facts of a finished folder; remove one that is damaged."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return None
    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))
        for name, (size, digest) in told["files"].items():
            if (folder / name).stat().st_size != size or (hashed and sha256(folder / name) != digest):
                raise ValueError(name)
        facts: dict[str, Any] = told["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(OSError):  # another user's
        os.utime(manifest)
    return facts


def _remove_unused(parent: Path) -> None:
    """Remove what was not opened for long and is not open now. Folders without our names and locks are not ours."""
    oldest = time.time() - UNUSED_DAYS * 86_400
    for folder in parent.iterdir():
        lock = folder.with_suffix(".lock")
        if not (OURS.fullmatch(folder.name) and folder.is_dir() and lock.is_file()):
            continue
        with suppress(OSError), open(lock, "a") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            manifest = folder / MANIFEST
            if (manifest if manifest.exists() else folder).stat().st_mtime < oldest:
                shutil.rmtree(folder)
