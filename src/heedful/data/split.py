"""Clusters of near-duplicates -> which rows are train, validation and test.

Shares are taken as the decimals that were written (0.85 is 85/100), so 0.85 of 1,100 rows is 935 of them.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Part = Literal["train", "validation", "test"]
Parts = dict[Part, Numbers]  # the rows of each part, by number


@dataclass(frozen=True)
class Shares:
    """Which share of the rows is held back for what."""

    validation: float
    test: float


def in_order(clusters: Sequence[int] | Numbers, shares: Shares, seed: int) -> Parts:
    """Take the first rows as train, the next as test, the rest as validation."""
    rows = np.arange(len(clusters))
    validation, test = _exact(shares.validation), _exact(shares.test)
    trained = floor(len(rows) * (1 - validation - test)) if validation or test else len(rows)
    tested = trained + floor(len(rows) * test) if validation else len(rows)  # without validation, the rest is test
    return {"train": rows[:trained], "validation": rows[tested:], "test": rows[trained:tested]}


def leak_aware(clusters: Sequence[int] | Numbers, shares: Shares, seed: int) -> Parts:
    """Shuffle, and hold back whole clusters, so that nothing near a held-back row is trained on."""
    numbers = array("q", range(len(clusters)))
    random.Random(seed).shuffle(numbers)
    order = np.frombuffer(numbers, np.int64)
    labels = np.asarray(clusters, np.int64)[order]
    groups, sizes = _by_appearance(labels)
    tested = _take(sizes, np.ones(len(sizes), bool), round(len(order) * _exact(shares.test)))
    validated = _take(sizes, ~tested, round(len(order) * _exact(shares.validation)))
    part = np.zeros(labels.max(initial=0) + 1, np.int8)
    part[groups[tested]], part[groups[validated]] = 1, 2
    part = part[labels]  # the rows of a part stand in shuffled order, so that the rows of a cluster stand apart
    return {"train": order[part == 0], "validation": order[part == 2], "test": order[part == 1]}


SPLITS: dict[str, Callable[[Numbers, Shares, int], Parts]] = {"in_order": in_order, "leak_aware": leak_aware}


def _by_appearance(labels: Numbers) -> tuple[Numbers, Numbers]:
    """List the labels in the order in which they appear, and how many rows have each."""
    rows = len(labels)
    first = np.full(labels.max(initial=0) + 1, rows)
    first[labels[::-1]] = np.arange(rows)[::-1]  # of several rows the last that is written stays: the first
    groups = np.flatnonzero(first < rows)
    groups = groups[np.argsort(first[groups])]
    return groups, np.bincount(labels, minlength=len(first))[groups]


def _take(sizes: Numbers, free: Flags, wanted: int) -> Flags:
    """Take of the free groups, in order, those that come nearest to `wanted` rows together; leave one at least."""
    taken = np.zeros(len(sizes), bool)
    missing, most = wanted, int(free.sum()) - 1
    for group in np.flatnonzero(free):
        if not missing or not most:
            break
        if sizes[group] <= missing:
            taken[group] = True
            missing, most = missing - int(sizes[group]), most - 1
    left = np.flatnonzero(free & ~taken)
    if missing and len(left) > 1:
        smallest = left[np.argmin(sizes[left])]
        taken[smallest] = sizes[smallest] < 2 * missing  # a few too many are nearer than as many too few
    return taken


def _exact(share: float) -> Fraction:
    return Fraction(str(share))
