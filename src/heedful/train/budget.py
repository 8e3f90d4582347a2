"""A training that ends on time: what its parts cost here, and how many updates therefore fit."""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from heedful.config import TrainConfig
from heedful.train.loop import evaluate_every, steps_per_epoch

UNEVEN = 12  # steps: up to here a longer run may validate less often, and so cost less
TOLERATED = 0.02  # of the budget: a smaller miss is not worth another total
FEWEST_BETWEEN_LOOKS = 5  # updates; in long runs a sixteenth of all


@dataclass
class Costs:
    """Seconds that each part of a training takes, as last measured."""

    step: float = 0.0
    validation: float = 0.0
    sample: float = 0.0
    save: float = 0.0
    model: float = 0.0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Remember how long a part took."""
        started = time.perf_counter()
        yield
        setattr(self, part, time.perf_counter() - started)

    def remaining(self, config: TrainConfig, rows: int, done: int, steps: int) -> float:
        """Return the seconds from after `done` steps to the end of a run of `steps`, when its model is written."""
        every, per_epoch = evaluate_every(steps, config), max(1, steps_per_epoch(rows, config))
        return (
            (steps - done) * self.step
            + _due(done, steps, every) * self.validation
            + _due(done, steps, per_epoch) * self.sample
            + _due(done, steps, config.save_every) * self.save
            + (done == 0) * self.validation  # the one before training
            + self.model
        )


@dataclass
class Budget:
    """The seconds that a training may take, and what is known of them on the way."""

    seconds: float
    ends: float  # in time.perf_counter()
    costs: Costs
    most: int  # the steps of the run as it was configured
    spent: float = 0.0  # in updates
    updates: int = 0

    def fit(self, config: TrainConfig, rows: int, done: int) -> int:
        """Return the largest total of steps that ends in time; `done` if not even one more would."""
        left = self.ends - time.perf_counter()

        def cost(steps: int) -> float:
            return self.costs.remaining(config, rows, done, steps)

        totals = range(max(done, UNEVEN) + 1, self.most + 1)
        if fitting := bisect.bisect_right(totals, left, key=cost):
            return totals[fitting - 1]
        few = range(done + 1, min(UNEVEN, self.most) + 1)
        return max((steps for steps in few if cost(steps) <= left), default=done)

    def look(self, config: TrainConfig, rows: int, done: int, total: int, seconds: float) -> int:
        """Learn from one more update; give the total, which changes where the end would be missed by it."""
        self.updates, self.spent = self.updates + 1, self.spent + seconds
        self.costs.step = self.spent / self.updates
        if self.updates % max(FEWEST_BETWEEN_LOOKS, total // 16) or done >= total:
            return total
        miss = time.perf_counter() + self.costs.remaining(config, rows, done, total) - self.ends
        if abs(miss) < TOLERATED * self.seconds:
            return total
        return max(done + 1, self.fit(config, rows, done))


def _due(done: int, steps: int, every: int) -> int:
    """Count what happens each `every` steps, and after the last, from after `done` to `steps`."""
    return steps // every - done // every + (steps % every > 0)
