"""The heap: memory that is freed stays with the process, so that the next step need not fault it in again."""

from __future__ import annotations

import contextlib
import ctypes
import gc

M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX = -1, -2, -8  # malloc.h of glibc


def keep_freed_pages() -> None:
    """Tell glibc to serve blocks from one heap and never to give it back; elsewhere do nothing.

    A step allocates and frees the same gigabyte each time; by default its pages are returned to the system and
    zeroed again on the next touch. The largest blocks, as always, are mapped by themselves: the heap would not fit
    them together, and grow.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in ((M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 * 2**20), (M_ARENA_MAX, 1)):
        mallopt(parameter, value)


def give_back_pages() -> None:
    """Return to the system what is free now: after training, its gigabytes are wanted by nobody."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
