"""The process's standard streams: replaced where the caller closed them, safe for any character, flushed at the end.

`prepare` runs before anything else: the next file that is opened gets the number of a closed stream, and what is meant
for the screen would be written into it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Closed(io.TextIOWrapper):
    """A stdout that was closed: writing a result to it is an error, because it would be lost."""

    def write(self, text: str) -> NoReturn:
        raise OSError(errno.EBADF, "it is closed, so the result is lost", "stdout")


class Unheard(io.FileIO):
    """A stderr whose reader may leave, and whose disk may be full: what it tells is not the result, which goes on."""

    def write(self, data: ReadableBuffer) -> int:
        """Write what can be written, without waiting for a reader that is slow."""
        try:
            written = super().write(data)
        except OSError:
            let_go(self.fileno())
            written = None
        return memoryview(data).nbytes if written is None else written


def prepare() -> None:
    """Replace streams that are missing, and a stderr that would end the work; escape, as \\xe9, characters that a
    stream's encoding does not have."""
    # in this order: what is opened gets the lowest number that is free, which is the missing stream's own
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (these last as long as the process)
    if sys.stdout is None:
        sys.stdout = Closed(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:  # there is nobody to tell
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    elif _descriptor(sys.stderr) == 2:
        file = io.BufferedWriter(Unheard(2, "w", closefd=False))
        through = isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr.write_through  # python -u
        sys.stderr = io.TextIOWrapper(file, sys.stderr.encoding, line_buffering=True, write_through=through)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _descriptor(stream: TextIO) -> int | None:
    with suppress(OSError):  # it may be no file
        return stream.fileno()
    return None


def deliver() -> None:
    """Flush stdout, while a failure can still be reported."""
    try:
        sys.stdout.flush()
    except OSError:
        let_go()
        raise


def let_go(descriptor: int = 1) -> None:
    """Point stdout, or stderr with 2, at the null device, so that Python's own flush at exit does not fail again."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def tell(text: str) -> None:
    """Write a line to stderr, if anybody still reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        let_go(2)


def knows_unicode() -> bool:
    """Say whether stdout can show every character as it is."""
    return (sys.stdout.encoding or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")
