"""The two consoles: results go to `out`, progress to `err`."""

from __future__ import annotations

from rich.console import Console


class Screen(Console):
    """A console that tells the program when the reader of a pipe left, as `print` does, where rich's ends it with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = Screen(highlight=False)
err = Screen(stderr=True, highlight=False)
