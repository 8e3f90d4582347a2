"""The two consoles: results go to `out`, progress to `err`."""

from __future__ import annotations

import os
import sys
from typing import IO

from rich.console import Console

WIDE = 160  # columns where nobody looks yet: a table in a pipe or a file is not cut to a terminal that is not there


class Screen(Console):
    """A console that tells the program when the reader of a pipe left, as `print` does, where rich's ends it with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def width_of(stream: IO[str] | None) -> int | None:
    """Return the columns of a stream that is no terminal; None where the terminal or COLUMNS tells."""
    seen = stream is None or stream.isatty() or "COLUMNS" in os.environ
    return None if seen else WIDE


out = Screen(highlight=False, width=width_of(sys.stdout))
err = Screen(stderr=True, highlight=False, width=width_of(sys.stderr))
