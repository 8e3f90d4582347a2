"""The two consoles: results go to `out`, progress to `err`."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from rich.console import Console

from heedful.system import streams

WIDE = 160  # columns in a pipe or a file, where no terminal cuts a table


class Screen(Console):
    """A console that shows a text as it stands, brackets and :colons: too.

    When the reader of a pipe leaves, rich's ends the program. Here results raise as `print` does; progress that nobody
    reads is no longer written, and the work goes on.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True
        streams.let_go(2)


def width_of(stream: IO[str] | None) -> int | None:
    """Return the columns of a stream that is no terminal; None where the terminal or COLUMNS tells."""
    seen = stream is None or stream.isatty() or "COLUMNS" in os.environ
    return None if seen else WIDE


out = Screen(width=width_of(sys.stdout))
err = Screen(stderr=True, width=width_of(sys.stderr))
