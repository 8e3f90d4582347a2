"""Memory that is freed stays with the process, so that the next step need not fault it in again."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc


def keep_freed_pages() -> None:
    """Tell glibc to serve large blocks from its heap and never to give the heap's top back; elsewhere do nothing.

    A step allocates and frees the same gigabyte each time; by default its pages are returned to the system and
    zeroed again on the next touch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 256 * 2**20)
