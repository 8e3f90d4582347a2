"""Memory that is freed stays with the process, in large pages, so that the next step need not fault it in again."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from heedful.encode.batch import Collator
from heedful.errors import RunError
from heedful.records import TokenizedExample

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # malloc.h of glibc
MADV_HUGEPAGE = 14  # madvise(2) of Linux
PAGE = 2**21  # bytes of a large page
RESERVED = 2**32  # bytes of address space; only what is touched becomes memory


def keep_freed_pages() -> None:
    """Tell glibc to serve large blocks from one heap and never to give it back; elsewhere do nothing.

    A step allocates and frees the same gigabyte each time; by default its pages are returned to the system and
    zeroed again on the next touch. The heap's range is marked for pages of 2 MiB by allocating a block and freeing it.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, malloc, free, madvise = libc.mallopt, libc.malloc, libc.free, libc.madvise
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in ((M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 * 2**20), (M_ARENA_MAX, 1)):
        mallopt(parameter, value)
    malloc.argtypes, malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    free.argtypes, madvise.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = min(RESERVED, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    block = malloc(size)
    if block:
        first = -(-block // PAGE) * PAGE
        madvise(first, (block + size - first) // PAGE * PAGE, MADV_HUGEPAGE)
        free(block)


def give_back_pages() -> None:
    """Return to the system what is free now: after training, its gigabytes are wanted by nobody."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, on a GPU or here."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def halved(collator: Collator, examples: Sequence[TokenizedExample]) -> Collator:
    """Give a collator of smaller forwards, or say that even a single row is too long."""
    longest, all_tokens = max(map(len, examples)), sum(map(len, examples))
    tokens = min(collator.batch_tokens, all_tokens) // 2
    if collator.batch_tokens <= longest:
        raise RunError(
            f"Memory does not hold the forward of a single row of {longest} tokens.",
            f"Set encode.max_tokens={max(8, longest // 2)}, or train.method=lora.",
        )
    return replace(collator, batch_tokens=max(longest, tokens))
