"""Long texts are worked on a few at a time, short ones many: what is made of them meanwhile takes memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def portions(items: Iterable[Item], size: Callable[[Item], int], enough: int) -> Iterator[list[Item]]:
    """Give items in lists, each of which ends with the item that makes its size `enough`."""
    portion: list[Item] = []
    held = 0
    for item in items:
        portion.append(item)
        held += size(item)
        if held >= enough:
            yield portion
            portion, held = [], 0
    if portion:
        yield portion
