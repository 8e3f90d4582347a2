"""Clusters of near-duplicates -> which rows are train, validation and test.

Shares are taken as the decimals that were written (0.85 is 85/100), so 0.85 of 1,100 rows is 935 of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Literal

Part = Literal["train", "validation", "test"]
Parts = dict[Part, list[int]]  # the rows of each part, by number


@dataclass(frozen=True)
class Shares:
    """Which share of the rows is held back for what."""

    validation: float
    test: float


def in_order(clusters: Sequence[int], shares: Shares, seed: int) -> Parts:
    """Take the first rows as train, the next as test, the rest as validation."""
    rows = list(range(len(clusters)))
    validation, test = _exact(shares.validation), _exact(shares.test)
    trained = floor(len(rows) * (1 - validation - test)) if validation or test else len(rows)
    tested = trained + floor(len(rows) * test) if validation else len(rows)  # the rest is of a part that was asked for
    return {"train": rows[:trained], "validation": rows[tested:], "test": rows[trained:tested]}


def leak_aware(clusters: Sequence[int], shares: Shares, seed: int) -> Parts:
    """Shuffle, and hold back whole clusters, so that nothing near a held-back row is trained on."""
    order = list(range(len(clusters)))
    random.Random(seed).shuffle(order)
    members: dict[int, list[int]] = {}
    for row in order:
        members.setdefault(clusters[row], []).append(row)
    test, left = _take(list(members.values()), round(len(order) * _exact(shares.test)))
    validation, left = _take(left, round(len(order) * _exact(shares.validation)))
    return {"train": _flat(left, order), "validation": _flat(validation, order), "test": _flat(test, order)}


SPLITS: dict[str, Callable[[Sequence[int], Shares, int], Parts]] = {"in_order": in_order, "leak_aware": leak_aware}


def _take(groups: list[list[int]], wanted: int) -> tuple[list[list[int]], list[list[int]]]:
    """Take the groups, in order, that come nearest to `wanted` rows together; leave one at least."""
    taken: list[list[int]] = []
    left: list[list[int]] = []
    missing = wanted
    for group in groups:
        if len(group) <= missing and len(taken) < len(groups) - 1:
            taken.append(group)
            missing -= len(group)
        else:
            left.append(group)
    smallest = min(left, key=len, default=[])
    if missing and len(left) > 1 and len(smallest) < 2 * missing:  # a few too many are nearer than as many too few
        left.remove(smallest)
        taken.append(smallest)
    return taken, left


def _flat(groups: list[list[int]], order: list[int]) -> list[int]:
    """Give the rows of groups in shuffled order, so that the rows of a cluster stand apart."""
    chosen = {row for group in groups for row in group}
    return [row for row in order if row in chosen]


def _exact(share: float) -> Fraction:
    return Fraction(str(share))
