"""Which rows of an update fall to which rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from heedful.encode.batch import Collator
from heedful.encode.tree import common_prefix
from heedful.records import TokenizedExample


def deal_rows(examples: Sequence[TokenizedExample], count: int, collator: Collator) -> list[list[int]]:
    """Deal a group's rows to `count` ranks so that the one with most to compute has least.

    Row by row the hands are most even; where rows share much, each beginning should go to few hands.
    """
    by_length = deal([len(example) for example in examples], count)
    if collator.layout != "tree" or count == 1:
        return by_length

    def most(hands: list[list[int]]) -> int:
        parts = (collator.parts([examples[i] for i in hand]) for hand in hands if hand)
        return max(sum(places for _, places in part) for part in parts)

    return min(by_length, _deal_neighbours(examples, count), key=most)


def deal(work: Sequence[int], count: int) -> list[list[int]]:
    """Deal items out so that each of `count` hands has about the same work: the largest first, to the emptiest hand.

    [5, 3, 3, 1] for two hands are [0, 3] and [1, 2]: 6 and 6. A hand keeps its items in their order.
    """
    hands: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for item in sorted(range(len(work)), key=lambda item: -work[item]):
        emptiest = loads.index(min(loads))
        hands[emptiest].append(item)
        loads[emptiest] += work[item]
    return [sorted(hand) for hand in hands]


def _deal_neighbours(examples: Sequence[TokenizedExample], count: int) -> list[list[int]]:
    """Cut the rows, in the order in which those that begin alike stand side by side, into stretches of equal work."""
    order = sorted(range(len(examples)), key=lambda i: examples[i].ids.tolist())
    rows = [examples[i].ids for i in order]
    fresh = [len(rows[0]), *(len(row) - common_prefix(before, row) for before, row in pairwise(rows))]
    hands: list[list[int]] = [[] for _ in range(count)]
    total, done = sum(fresh), 0
    for i, nodes in zip(order, fresh, strict=True):
        hands[min(count - 1, (2 * done + nodes) * count // (2 * total))].append(i)
        done += nodes
    return [sorted(hand) for hand in hands]
