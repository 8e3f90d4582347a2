"""Input of the terminal chat: lines, with a history of earlier chats, and messages of several lines."""

from __future__ import annotations

import atexit
import contextlib
import sys
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.system.store import cache_home

FENCE = '"""'


def remember_lines() -> None:
    """Give `input` arrow keys and the history of earlier chats."""
    with contextlib.suppress(ImportError, OSError):  # not on every system, and the cache may be closed to us
        import readline

        file = cache_home() / "chat_history"
        if file.exists():
            readline.read_history_file(file)
        readline.set_history_length(1000)
        atexit.register(keep_lines, file)


def keep_lines(file: Path) -> None:
    """Save the history, readable by its owner alone."""
    import readline

    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        readline.write_history_file(file)


def read_line() -> str:
    """Read a line, or all lines between two FENCEs, with a prompt where a person types."""
    line = _typed("> ")
    if not line.startswith(FENCE):
        return line
    lines = [line[len(FENCE) :]]
    while not lines[-1].endswith(FENCE):
        try:
            lines.append(_typed(". "))
        except EOFError:  # half a message is none; that the input has ended is heard again
            raise HeedfulError(f"A message begun with {FENCE} was not ended.", f"End it with {FENCE}.") from None
    return " " + "\n".join(lines)[: -len(FENCE)]  # the space makes it a message, whatever it begins with


def _typed(prompt: str) -> str:
    return input(prompt if sys.stdin.isatty() else "")
