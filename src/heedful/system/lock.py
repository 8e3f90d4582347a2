"""Which process holds a folder: one that may write there, or several that can only read."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from heedful.errors import UsageError

LOCK = "run.lock"


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock dies with the process.

    Without write permission it takes a shared lock, which keeps only writers out.
    """
    writes, file = os.access(folder, os.W_OK), folder / LOCK
    if not (writes or file.exists()):  # nobody else was ever there, and we cannot leave our name
        yield
        return
    with open(file, "a+" if writes else "r", encoding="utf-8") as held:
        try:
            fcntl.flock(held, (fcntl.LOCK_EX if writes else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder} is in use by {_named_in(held)}.", "Wait for it, or train into another folder with --out."
            ) from None
        if writes:
            held.truncate(0)
            held.write(f"{_this_process()}\n")
            held.flush()
        yield


def holder(folder: Path) -> str:
    """Name the other process that holds a folder, if one does."""
    with suppress(OSError), open(folder / LOCK, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _named_in(file).replace(_this_process(), "")
    return ""


def _named_in(lock_file: TextIO) -> str:
    lock_file.seek(0)
    return lock_file.read().strip() or "another process"


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
