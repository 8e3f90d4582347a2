"""What each row cost in each epoch of a training: its summed NLL in nats, and the supervised tokens it was summed over.

A file of 8 bytes for each row and epoch, at a place that the two decide: [epochs, rows] of (float32, uint32). So a step
that is done again after a kill writes the same bytes to the same place, and no row can stand in it twice. A row that
was not trained on has 0 tokens. The file reaches as far as the last row that was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heedful.errors import RunError
from heedful.system.atomic import advice, sync

CELL = np.dtype([("nll", "<f4"), ("tokens", "<u4")])
Losses = NDArray[np.float64]


class RowLosses:
    """The file of one run, by the number of its training rows."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows = path, rows

    def keep(self, epoch: int, rows: Sequence[int], nll: Sequence[float], tokens: Sequence[int]) -> None:
        """Write down what some rows cost in an epoch."""
        cells = np.array(list(zip(nll, tokens, strict=True)), CELL)
        with self._open() as descriptor:
            for row, cell in zip(rows, cells, strict=True):
                os.pwrite(descriptor, cell.tobytes(), (epoch * self.rows + row) * CELL.itemsize)

    def forget_from(self, epoch: int, but: Sequence[int] = ()) -> None:
        """Forget an epoch and all later ones; `but` are the rows of that epoch to remember.

        At no instant are they gone: what stands behind the last of them is cut off, what stands between is overwritten.
        """
        start, wanted = epoch * self.rows * CELL.itemsize, max(but, default=-1) + 1
        with self._open() as descriptor:
            os.ftruncate(descriptor, min(os.fstat(descriptor).st_size, start + wanted * CELL.itemsize))
            found = os.pread(descriptor, wanted * CELL.itemsize, start)
            cells = np.frombuffer(found, CELL, len(found) // CELL.itemsize).copy()
            cells[np.setdiff1d(np.arange(len(cells)), but)] = 0
            os.pwrite(descriptor, cells.tobytes(), start)

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Open the file to write anywhere in it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield descriptor
        except OSError as error:
            raise RunError(f"Cannot write {self.path}: {error.strerror}.", advice(error)) from error
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Push the file to the disk."""
        with open(self.path, "ab") as file:
            sync(file)

    def per_token(self) -> tuple[Losses, NDArray[np.int64]]:
        """Give each row's NLL per token, [epochs, rows], NaN where it was not trained on, and its tokens [rows]."""
        table = self._read()
        tokens = table["tokens"].astype(np.int64)
        nll = np.where(tokens > 0, table["nll"].astype(np.float64), np.nan) / np.maximum(tokens, 1)
        return nll, tokens.max(axis=0, initial=0)

    def _read(self) -> NDArray[np.void]:
        """Return the whole table [epochs, rows], the last epoch filled up with rows that were not trained on."""
        cells = np.fromfile(self.path, CELL) if self.path.exists() else np.zeros(0, CELL)
        epochs = -(-len(cells) // self.rows)
        table = np.zeros((epochs, self.rows), CELL)
        table.reshape(-1)[: len(cells)] = cells
        return table
