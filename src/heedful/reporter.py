"""Who is told of work that takes long. A stage is handed a Reporter, and knows neither the terminal nor its bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

PROGRESS_ROWS, PROGRESS_MIB = 50_000, 32  # from so many rows or MiB on somebody waits, and wants to see a count
Done = Callable[[int], None]  # takes how many are done


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


SILENT = Reporter()
