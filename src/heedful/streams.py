"""The process's own streams: there where the caller closed them, fit for any character, and emptied before the end.

Nothing here knows what is written. It comes before all else, because the next file that is opened takes the place of a
closed one, and what is meant for the screen would be written into it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import NoReturn


class Closed(io.TextIOWrapper):
    """A stdout that nobody opened: a result for it is lost, which is told as soon as there is one."""

    def write(self, text: str) -> NoReturn:
        raise OSError(errno.EBADF, "it is closed, so the result is lost", "stdout")


def prepare() -> None:
    """Put something in the place of streams that are missing; write as \\xe9 what a stream's encoding does not know."""
    # in this order: what is opened gets the lowest number that is free, which is the missing stream's own
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (these last as long as the process)
    if sys.stdout is None:
        sys.stdout = Closed(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:  # there is nobody to tell
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def deliver() -> None:
    """Write out what stdout still holds, while there is somebody to hear that it cannot be."""
    try:
        sys.stdout.flush()
    except OSError:
        let_go()
        raise


def let_go(descriptor: int = 1) -> None:
    """Write no more to stdout, or to 2, stderr: Python would try again at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def knows_unicode() -> bool:
    """Say whether stdout can show every character as it is."""
    return (sys.stdout.encoding or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")
