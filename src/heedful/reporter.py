"""Who is told of work that takes long. A stage is handed a Reporter, and knows neither the terminal nor its bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

PROGRESS_ROWS, PROGRESS_MIB = 50_000, 32  # from so many rows or MiB on somebody waits, and wants to see a count
BETWEEN_COUNTS = 0.2  # seconds
Done = Callable[[int], None]  # takes how many are done
Item = TypeVar("Item")


@contextmanager
def _uncounted(what: str, total: int) -> Iterator[Done]:
    yield lambda done: None


@dataclass(frozen=True, slots=True)
class Reporter:
    """Takes lines, and counts up to a total; by default nobody hears of either."""

    say: Callable[[str], None] = lambda text: None
    count: Callable[[str, int], AbstractContextManager[Done]] = _uncounted

    def counting(self, what: str, total: int, least: int) -> AbstractContextManager[Done]:
        """Count if the total is at least `least`: nobody waits for less."""
        return (self.count if total >= least else _uncounted)(what, total)


def counted(items: Iterable[Item], done: Done) -> Iterator[Item]:
    """Give the items, and tell now and then how many were taken."""
    told = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - told > BETWEEN_COUNTS:
            done(number)
            told = time.monotonic()


SILENT = Reporter()
