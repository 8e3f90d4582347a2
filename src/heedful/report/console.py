"""The two consoles: results go to `out`, progress to `err`."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from rich.console import Console

WIDE = 160  # columns where nobody looks yet: a table in a pipe or a file is not cut to a terminal that is not there


class Screen(Console):
    """A console that shows a text as it stands, brackets and :colons: too, and tells the program when the reader of a
    pipe left, as `print` does, where rich's ends it with 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def width_of(stream: IO[str] | None) -> int | None:
    """Return the columns of a stream that is no terminal; None where the terminal or COLUMNS tells."""
    seen = stream is None or stream.isatty() or "COLUMNS" in os.environ
    return None if seen else WIDE


out = Screen(width=width_of(sys.stdout))
err = Screen(stderr=True, width=width_of(sys.stderr))
