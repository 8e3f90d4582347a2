"""The command `heedful`, and `python -m heedful`: the command line, and a Ctrl-C that is heard while it is imported."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so in the background of a script
    if heard:  # an exception would be raised inside of whatever is being imported, and told as if that had failed
        signal.signal(signal.SIGINT, leave)
    from heedful.cli import main as command_line

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command_line()
    except KeyboardInterrupt:
        leave()


def leave(*_: object) -> None:
    """End as the shell expects it of a program that was interrupted."""
    os.write(2, b"heedful: Interrupted.\n")
    os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
