"""The command `heedful`, and `python -m heedful`: the command line, and a Ctrl-C that is heard during imports too."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so in the background of a script
        signal.signal(signal.SIGINT, interrupt)
    from heedful.cli import main as command_line

    try:
        command_line()
    except KeyboardInterrupt:
        leave()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but end at once while anything is imported: the exception would be raised inside of it,
    where libraries take it for a failure of theirs, or abort."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            leave()
        frame = frame.f_back
    signal.default_int_handler(number, frame)


def leave() -> None:
    """End as the shell expects it of a program that was interrupted."""
    os.write(2, b"heedful: Interrupted.\n")
    os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
