"""The first signal asks for an end after the running step; the second ends at once, with the old checkpoint intact.
A rank that ends anyway hears none."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from heedful.system import launch


@dataclass
class Stop:
    """The signal that asked for an end, or 0."""

    signal: int = 0


@contextmanager
def listen() -> Iterator[Stop]:
    """Catch SIGINT, SIGTERM and SIGHUP for the time of the block."""
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal:
            os._exit(128 + number)
        stop.signal = number

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup stays nohup
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM for the time of the block; in a process that ends with its error, for good.

    torchrun sends them to a rank that is telling why it failed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not launch.ends_with_its_error:
            for number, handler in before.items():
                signal.signal(number, handler)
