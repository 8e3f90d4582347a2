"""Which rows make an update: the order of each epoch.

It is a pure function of (rows, group size, seed, epoch), the same for any number of ranks; to resume is to slice it.
Rows that share a long beginning (a document with many questions, a prompt with many answers) meet in an update where
they can, since a tree computes what they share once.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from heedful.encode.examples import Examples

LONG = 128  # tokens: a shorter beginning is not worth another order
SHARE = 4  # a beginning counts that is at least a quarter of its row
NONE, MANY = -1, 2**62  # no family yet; more than there are
Numbers = NDArray[np.int64]


class Plan(Sequence[list[int]]):
    """An epoch's groups of row numbers, one group an update; memory holds one number for each row."""

    def __init__(self, order: Numbers, group_size: int, drop_last: bool = False) -> None:
        self._order, self._size = order, group_size
        self._groups = len(order) // group_size if drop_last else -(-len(order) // group_size)

    def __len__(self) -> int:
        return self._groups

    @overload
    def __getitem__(self, at: int) -> list[int]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[list[int]]: ...
    def __getitem__(self, at: int | slice) -> list[int] | Sequence[list[int]]:
        if not isinstance(at, slice):
            start = range(self._groups)[at] * self._size
            rows: list[int] = self._order[start : start + self._size].tolist()
            return rows
        start, stop, step = at.indices(self._groups)
        if step != 1:
            return [self[i] for i in range(start, stop, step)]
        return Plan(self._order[start * self._size : max(start, stop) * self._size], self._size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Order:
    """The groups of every epoch."""

    rows: int
    group_size: int
    seed: int
    drop_last: bool = False
    families: Numbers | None = None  # [rows]: those of one number share a long beginning

    def epoch(self, number: int) -> Plan:
        """Give an epoch's groups of row numbers, one group an update."""
        order = shuffled(self.rows, self.seed, number)
        if self.families is not None:
            # Half an update at most: an update should not hear of one document alone.
            order = order[together(self.families[order], max(1, self.group_size // 2))]
        return Plan(order, self.group_size, self.drop_last)


def shuffled(rows: int, seed: int, epoch: int) -> Numbers:
    """Give all row numbers in an epoch's order.

    It is that of `DataLoader(shuffle=True)` in its (epoch + 1)-th pass after `torch.manual_seed(seed)`: a pass draws a
    seed for workers, then one for its permutation.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epoch + 1):
        _for_workers, shuffle_seed = (int(_draw_seed(generator)) for _ in range(2))
    order: Numbers = torch.randperm(rows, generator=torch.Generator().manual_seed(shuffle_seed)).numpy()
    return order


def together(families: Numbers, most: int) -> Numbers:
    """Rearrange rows, given by their families: up to `most` of a family follow each other from where the first stood.

    Give the places that they had: [a b a c a] with `most` = 2 is taken in the order 0 2 1 3 4.
    """
    places = np.argsort(families, kind="stable")  # family by family
    sizes = np.unique(families, return_counts=True)[1]
    rank = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the family
    first = places[np.arange(len(places)) - rank % most]  # where the first of those that go together stood
    return places[np.lexsort((places, first))]


def families(examples: Examples) -> Numbers | None:
    """Number the rows by the longest beginning that they share with another row; None if none share a long one.

    Looked at are the first 128, 256, 512 ... tokens. A family has the number of one of its rows.
    """
    rows = np.flatnonzero(examples.tokens > LONG)
    hashes = np.zeros((int(examples.tokens.max() // LONG).bit_length(), len(rows)), np.uint64)
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
    return family if kin.any() else None


def _joined(rows: Numbers, beginning: Numbers, family: Numbers) -> Numbers:
    """Let rows without a family join the one that others of their beginning have, or, if those have none, make one.

    For a row of a document may be a little too short for the beginning by which the others of it were found.
    """
    has, alone = np.flatnonzero(family != NONE), np.flatnonzero(family == NONE)
    count = int(beginning.max(initial=-1)) + 1
    least, greatest, first = np.full(count, MANY), np.full(count, NONE), np.full(count, MANY)
    np.minimum.at(least, beginning[has], family[has])
    np.maximum.at(greatest, beginning[has], family[has])
    np.minimum.at(first, beginning[alone], rows[alone])
    own = np.where(np.bincount(beginning[alone], minlength=count) > 1, first, NONE)
    joined = family.copy()
    joined[alone] = np.where(least == greatest, least, own)[beginning[alone]]
    return joined


def _beginnings(ids: bytes, size: int) -> Iterator[int]:
    """Hash a row's first 128, 256, 512 ... tokens, of `size` bytes each; 0 for what is too small a part of the row."""
    digest, start, end = hashlib.blake2b(digest_size=8), 0, LONG * size
    while end < len(ids):  # the last token is only predicted
        digest.update(ids[start:end])
        yield int.from_bytes(digest.digest()) if end * SHARE >= len(ids) else 0
        start, end = end, 2 * end


def _draw_seed(generator: torch.Generator) -> torch.Tensor:
    return torch.empty((), dtype=torch.int64).random_(generator=generator)
