"""Which rows of an update fall to which rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from heedful.encode.batch import Collator
from heedful.encode.tree import by_beginning, common_prefix
from heedful.records import TokenizedExample


def assign_rows(examples: Sequence[TokenizedExample], count: int, collator: Collator) -> list[list[int]]:
    """Assign a group's rows to `count` ranks so that the one with most to compute has least.

    Row by row the shares are most even; where rows share much, each beginning should go to few ranks.
    """
    by_length = shared_out([len(example) for example in examples], count)
    if collator.layout != "tree" or count == 1:
        return by_length

    def most(shares: list[list[int]]) -> int:
        parts = (collator.parts([examples[i] for i in share]) for share in shares if share)
        return max(sum(places for _, places in part) for part in parts)

    return min(by_length, _assign_neighbours(examples, count), key=most)


def shared_out(work: Sequence[int], count: int) -> list[list[int]]:
    """Share items out so that each of `count` shares is about the same work: the largest first, to the least share.

    [5, 3, 3, 1] in two shares are [0, 3] and [1, 2]: 6 and 6. A share keeps its items in their order.
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for item in sorted(range(len(work)), key=lambda item: -work[item]):
        least = loads.index(min(loads))
        shares[least].append(item)
        loads[least] += work[item]
    return [sorted(share) for share in shares]


def _assign_neighbours(examples: Sequence[TokenizedExample], count: int) -> list[list[int]]:
    """Cut the rows, in the order in which those that begin alike stand side by side, into stretches of equal work."""
    order = by_beginning(examples)
    rows = [examples[i].ids for i in order]
    fresh = [len(rows[0]), *(len(row) - common_prefix(before, row) for before, row in pairwise(rows))]
    shares: list[list[int]] = [[] for _ in range(count)]
    total, done = sum(fresh), 0
    for i, nodes in zip(order, fresh, strict=True):
        shares[min(count - 1, (2 * done + nodes) * count // (2 * total))].append(i)
        done += nodes
    return [sorted(share) for share in shares]
