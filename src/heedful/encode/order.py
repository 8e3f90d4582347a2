"""Which rows make an update: the order of each epoch.

It is a pure function of the rows, group size, seed and epoch, the same for any number of ranks; to resume is to slice
it. Rows that share a long beginning (a document with many questions, a prompt with many answers) meet in an update
where they can, since a tree computes what they share once.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from heedful.encode.examples import Examples

MIN_SHARED_TOKENS = 128  # tokens: a shorter beginning is not worth another order
MAX_ROW_TO_PREFIX = 4  # a beginning that is looked at counts if it is a quarter of its row
MAX_HELD_UPDATES = 4  # updates' worth of rows that may wait for smaller runs to fill a gap
PIECE = 1 << 16  # runs looked at together
NONE = -1  # no family yet
Numbers = NDArray[np.int64]


class Plan(Sequence[list[int]]):
    """An epoch's groups of row numbers, one group an update; memory holds one number for each row."""

    def __init__(self, order: Numbers, group_size: int, drop_last: bool = False) -> None:
        self._order, self._size = order, group_size
        self._groups = len(order) // group_size if drop_last else -(-len(order) // group_size)

    def __len__(self) -> int:
        return self._groups

    @property
    def rows(self) -> Numbers:
        """The rows of all groups, one after another."""
        return self._order[: self._groups * self._size]

    @overload
    def __getitem__(self, at: int) -> list[int]: ...
    @overload
    def __getitem__(self, at: slice) -> Plan: ...
    def __getitem__(self, at: int | slice) -> list[int] | Plan:
        if not isinstance(at, slice):
            start = range(self._groups)[at] * self._size
            rows: list[int] = self._order[start : start + self._size].tolist()
            return rows
        start, stop, step = at.indices(self._groups)
        assert step == 1, at
        return Plan(self._order[start * self._size : max(start, stop) * self._size], self._size)


@dataclass(frozen=True, eq=False)
class Order:
    """The groups of every epoch."""

    rows: int
    group_size: int
    seed: int
    drop_last: bool = False
    families: Numbers | None = None  # [rows]: those of one number share a long beginning
    _latest: dict[int, Plan] = field(default_factory=dict, init=False, repr=False, compare=False)  # by epoch

    def epoch(self, number: int) -> Plan:
        """Return an epoch's groups of row numbers, one group an update. The same epoch again costs nothing."""
        if number not in self._latest:
            self._latest.clear()
            self._latest[number] = self._arranged(number)
        return self._latest[number]

    def _arranged(self, number: int) -> Plan:
        order = shuffled(self.rows, self.seed, number)
        if self.families is not None:
            order = order[group_families(self.families[order], self.group_size)]
        return Plan(order, self.group_size, self.drop_last)

    def fingerprint(self) -> str | None:
        """Hash what the order depends on besides numbers that a run's settings tell."""
        return None if self.families is None else hashlib.sha256(self.families.tobytes()).hexdigest()


def shuffled(rows: int, seed: int, epoch: int) -> Numbers:
    """Return all row numbers in an epoch's order.

    It is that of `DataLoader(shuffle=True)` in its (epoch + 1)-th pass after `torch.manual_seed(seed)`: a pass draws a
    seed for workers, then one for its permutation.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epoch + 1):
        _for_workers, shuffle_seed = torch.empty(2, dtype=torch.int64).random_(generator=generator).tolist()
    order: Numbers = torch.randperm(rows, generator=torch.Generator().manual_seed(shuffle_seed)).numpy()
    return order


def group_families(families: Numbers, group_size: int) -> Numbers:
    """Rearrange rows, given by their families, so that rows of a family meet in an update; give the places they had.

    Up to half an update of a family, as it should not hear of one document alone, follow each other in a run, from
    where the first of them stood. Of [a b a c a], by 4, the runs are 0 2, 1, 3, 4.
    """
    most = max(1, group_size // 2)
    places = np.argsort(families, kind="stable")  # family by family
    sizes = np.unique(families, return_counts=True)[1]
    rank = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the family
    first = places[np.arange(len(places)) - rank % most]  # where the first of the run stood
    by_run = np.lexsort((places, first))
    starts = np.flatnonzero(np.diff(first[by_run], prepend=-1))
    return places[by_run][_fill_updates(starts, np.append(starts[1:], len(places)), group_size)]


def _fill_updates(starts: Numbers, ends: Numbers, group_size: int) -> Numbers:
    """Let no run go from one update into the next, where later ones can fill the gap; give the order of the places.

    Run k has the places from `starts[k]` to `ends[k]`.
    """
    order, waiting = array("q"), deque[tuple[int, int]]()

    def take(number: int, room: int) -> None:
        start, end = waiting[number]
        stop = min(end, start + room)
        order.extend(range(start, stop))
        if stop < end:
            waiting[number] = stop, end
        else:
            del waiting[number]

    for run in _pairs(starts, ends):
        waiting.append(run)
        while waiting:
            room, held = group_size - len(order) % group_size, run[1] - len(order)
            fits = next((k for k, (start, end) in enumerate(waiting) if end - start <= room), None)
            if fits is None and held < MAX_HELD_UPDATES * group_size:
                break  # a later run may fit
            take(fits or 0, room)
    while waiting:
        take(0, group_size)
    return np.frombuffer(order, np.int64)


def _pairs(starts: Numbers, ends: Numbers) -> Iterator[tuple[int, int]]:
    """Pair two arrays' numbers, a piece at a time: as Python's own, all of them would take five times the memory."""
    for at in range(0, len(starts), PIECE):
        yield from zip(starts[at : at + PIECE].tolist(), ends[at : at + PIECE].tolist(), strict=True)


def families(examples: Examples) -> Numbers | None:
    """Number the rows by the longest beginning that they share with another row; None if none or all share one.

    Looked at are the first 128, 256, 512 ... tokens. A family has the number of one of its rows.
    """
    rows = np.flatnonzero(examples.tokens > MIN_SHARED_TOKENS)
    hashes = np.zeros((int(examples.tokens.max() // MIN_SHARED_TOKENS).bit_length(), len(rows)), np.uint64)
    for k, row in enumerate(rows.tolist()):
        for level, value in enumerate(_beginnings(examples.ids(row), examples.id_bytes)):
            hashes[level, k] = value
    found = np.full(len(rows), NONE)  # of these rows, by their places among them
    for of_length in hashes[::-1]:
        some = np.flatnonzero(of_length)
        found[some] = _joined(some, np.unique(of_length[some], return_inverse=True)[1], found[some])
    kin = found != NONE
    family = np.arange(len(examples))
    family[rows[kin]] = rows[found[kin]]
    return family if kin.any() and (family != family[0]).any() else None


def _joined(rows: Numbers, beginning: Numbers, family: Numbers) -> Numbers:
    """Let rows without a family make one with those of their beginning; a few join the one that others of it have.

    For a row of a document may be a little too short for the beginning by which the others of it were found.
    """
    joined, had = family.copy(), family.tolist()
    places_of = defaultdict(list)  # by beginning
    shared = np.flatnonzero(np.bincount(beginning)[beginning] > 1)
    for place, number in zip(shared.tolist(), beginning[shared].tolist(), strict=True):
        places_of[number].append(place)
    for places in places_of.values():
        lone = [place for place in places if had[place] == NONE]
        known = {had[place] for place in places} - {NONE}
        if len(known) == 1 and len(lone) < len(places) - len(lone):
            joined[lone] = known.pop()
        elif len(lone) > 1:
            joined[lone] = rows[lone[0]]
    return joined


def _beginnings(ids: bytes, size: int) -> Iterator[int]:
    """Hash a row's first 128, 256, 512 ... tokens, of `size` bytes each; 0 for what is too small a part of the row."""
    digest, start, end = hashlib.blake2b(digest_size=8), 0, MIN_SHARED_TOKENS * size
    while end < len(ids):  # the last token is only predicted
        digest.update(ids[start:end])
        yield int.from_bytes(digest.digest()) if end * MAX_ROW_TO_PREFIX >= len(ids) else 0
        start, end = end, 2 * end
