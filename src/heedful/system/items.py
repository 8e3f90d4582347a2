"""Byte strings on disk: written one after the other, each read where it is asked for; memory holds where they end."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

READ = 1 << 20  # bytes read at once in a pass over all items
Item = TypeVar("Item")


class Writer:
    """Writes byte strings one after the other into `NAME.bin`, and where each ends into `NAME.npy`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.index, self.ends = folder / f"{name}.npy", array("q", [0])
        self.file = open(folder / f"{name}.bin", "wb")  # noqa: SIM115 (closed by `__exit__`)

    def append(self, item: bytes) -> None:
        self.file.write(item)
        self.ends.append(self.ends[-1] + len(item))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.file.close()
        np.save(self.index, np.frombuffer(self.ends, np.int64))


class Bytes:
    """A file that is read at any place. The system's page cache keeps what is read again, outside of our memory."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self._descriptor, end - start, start)


def numbers(path: Path) -> NDArray[np.int64]:
    """Open an array of numbers, of which the system brings into memory what is used."""
    found: NDArray[np.int64] = np.load(path, mmap_mode="r").view(np.ndarray)
    return found


class Items(Generic[Item]):
    """What a Writer wrote, each made by `read` of its bytes on disk; memory holds only where they end."""

    def __init__(self, folder: Path, name: str, read: Callable[[bytes], Item]) -> None:
        self._bytes, self._read = Bytes(folder / f"{name}.bin"), read
        self._ends = numbers(folder / f"{name}.npy")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, at: int) -> Item:
        i = range(len(self))[at]
        return self._read(self._bytes.read(int(self._ends[i]), int(self._ends[i + 1])))

    def __iter__(self) -> Iterator[Item]:
        """Read in large pieces: a pass over all items takes few calls."""
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self._ends, self._ends[start] + READ, side="right")) - 1
            stop = max(stop, start + 1)
            ends = (self._ends[start : stop + 1] - self._ends[start]).tolist()
            piece = self._bytes.read(int(self._ends[start]), int(self._ends[stop]))
            for i in range(stop - start):
                yield self._read(piece[ends[i] : ends[i + 1]])
            start = stop
