"""Who is told of work that takes long. A stage is handed a Reporter, and knows neither the terminal nor its bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

SHORT = 1.0  # seconds that nobody minds to wait without a count
BETWEEN_COUNTS = 0.2  # seconds
MANY_ROWS = 50_000  # whoever waited for so many wants to hear that they need not wait again
Done = Callable[[int], None]  # takes how many are done
Item = TypeVar("Item")


def unheard(done: int) -> None:
    """Tell nobody."""


@contextmanager
def _uncounted(what: str, total: int) -> Iterator[Done]:
    yield unheard


@dataclass(frozen=True, slots=True)
class Reporter:
    """Takes lines, and counts up to a total; by default nobody hears of either."""

    say: Callable[[str], None] = lambda text: None
    count: Callable[[str, int], AbstractContextManager[Done]] = _uncounted

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Done]:
        """Count what may be done in no time: nothing is shown before it has taken a second."""
        started, shown = time.monotonic(), None
        with ExitStack() as stack:

            def done(number: int) -> None:
                nonlocal shown
                if shown is None and time.monotonic() - started >= SHORT:
                    shown = stack.enter_context(self.count(what, total))
                if shown is not None:
                    shown(number)

            yield done


def tallied(items: Iterable[Item], done: Done, before: int = 0) -> Iterator[Item]:
    """Give the items, and tell now and then how many were taken, with those taken before."""
    told = time.monotonic()
    for number, item in enumerate(items, before + 1):
        yield item
        if time.monotonic() - told > BETWEEN_COUNTS:
            done(number)
            told = time.monotonic()


SILENT = Reporter()
