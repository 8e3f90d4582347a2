"""How fast a session trains here, and the total of steps that keeps it within its budget."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from heedful.errors import UsageError
from heedful.records import Progress, StepMetrics, TokenizedExample
from heedful.run import read_json, write_json
from heedful.train import checkpoint
from heedful.train.budget import Budget, Costs, measured, total_at
from heedful.train.display import Bar
from heedful.train.loop import evaluate_every

if TYPE_CHECKING:
    from heedful.train.session import Session

GROUPS = 5  # whose gradients are measured; the first pays for warming up
UPDATE = 0.12  # of the gradient's time: what AdamW takes besides, until whole updates were measured
T = TypeVar("T")


class Pace:
    """Measures a session, and decides over its total of steps where it has a budget."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.budget: Budget | None = None

    def measure(self) -> Costs:
        """Measure what each part of a training costs; gradients are thrown away and the model is as before."""
        session, costs = self.session, Costs(0.0)
        groups = [group.rows for group, _ in zip(session.groups(Progress()), range(GROUPS), strict=False)]
        examples = [[session.ready.train[i] for i in rows] for rows in groups]
        seconds = [self._gradient(some) for some in examples]
        later = slice(1, None) if len(seconds) > 1 else slice(None)
        per_token = sum(seconds[later]) / sum(len(example) for some in examples[later] for example in some)
        costs.step = (1 + UPDATE) * per_token * self.tokens()
        if session.ready.validation:
            some = session.ready.validation[: session.config.train.batch_size]
            rows = len(session.some(session.ready.validation))
            rows += (session.config.train.evaluate_batches or 0) * session.config.train.batch_size
            costs.validation = measured(lambda: session.learner.validate(some)) * rows / len(some)
        costs.sample = measured(lambda: session.display.sample(session.learner.model))
        folder = session.run.checkpoints / f".measure.tmp-{os.getpid()}"  # `Session.begin` removes what a kill left
        costs.export = measured(lambda: checkpoint.write(folder, session.learner.optimizer.masters))
        shutil.rmtree(folder)
        costs.save = 3 * costs.export  # the masters and their two moments
        return costs

    def tokens(self) -> float:
        """Return the tokens of an update, in the mean."""
        encoding = self.session.ready.receipt["encoding"]
        tokens = encoding["prompt_tokens"]["sum"] + encoding["answer_tokens"]["sum"]
        return float(tokens / encoding["rows"] * self.session.config.train.batch_size)

    def fit_into(self, seconds: float, started: float) -> None:
        """Shorten the run, and its schedule, to end `seconds` after `started` (in time.perf_counter()), exported."""
        session, train = self.session, self.session.config.train
        rows, most = len(session.ready.train), session.learner.steps
        self.budget = Budget(seconds, started + seconds, self.measure(), most)
        steps = self.budget.fit(train, rows, 0)
        if steps == 0:
            need = time.perf_counter() - started + self.budget.costs.remaining(train, rows, 0, 1)
            raise UsageError(
                f"The budget of {seconds:.0f} s is too short: loading, one step and saving take {need:.0f} s here.",
                "Give a longer --budget.",
            )
        speed = self.tokens() / self.budget.costs.step
        session.display.say(f"{speed:,.0f} tokens/s here: {steps} of {most} steps fit into {seconds:.0f} s.")
        self._decide(0, steps)

    def show_hook(self, bar: Bar) -> Callable[[StepMetrics], None]:
        """Return the hook that follows or makes decisions after each update, and shows it."""

        def look(metrics: StepMetrics) -> None:
            self.follow(metrics.step)
            if self.budget is not None:
                train, rows, total = (
                    self.session.config.train,
                    len(self.session.ready.train),
                    self.session.learner.steps,
                )
                wanted = self.budget.look(train, rows, metrics.step, total, metrics.seconds)
                if wanted != total:
                    self.session.display.say(f"step {metrics.step}: {wanted} steps in all keep the budget.")
                    self._decide(metrics.step, wanted)
            bar.total = self.session.learner.steps
            bar.step(metrics)

        return look

    def follow(self, step: int) -> None:
        """Take the total that was decided to count from `step` on, unless the run's length was changed since."""
        if self.budget is None and self.kept and self.kept[max(self.kept)] == self.session.config.train.max_steps:
            self.session.learner.steps = total_at(self.kept, step)

    @cached_property
    def kept(self) -> dict[int, int]:
        """Return the totals that were decided before the run was interrupted."""
        file = self.session.run.budget_file
        totals = self.session.ranks.broadcast(lambda: read_json(file) if file.is_file() else {})
        return {int(start): total for start, total in totals.items()}

    def timed(self, part: str, hook: Callable[[Progress], T]) -> Callable[[Progress], T]:
        """Let a hook's time be known to the budget."""

        def timed(progress: Progress) -> T:
            with self.budget.costs.timed(part) if self.budget else nullcontext():
                return hook(progress)

        return timed

    def _decide(self, step: int, total: int) -> None:
        """Train `total` steps, from `step` on; the decision is kept for whoever resumes the run."""
        session, budget = self.session, self.budget
        assert budget is not None
        budget.totals[step] = session.learner.steps = total
        every = evaluate_every(total, session.config.train)
        session.settle({"train.max_steps": total, "train.evaluate_every": every})
        write_json(session.run.budget_file, budget.totals)

    def _gradient(self, examples: Sequence[TokenizedExample]) -> float:
        """Return the seconds of a gradient and its norm."""
        learner = self.session.learner

        def work() -> None:
            learner.accumulate(examples, step=0)
            learner.optimizer.norm()

        seconds = measured(work)
        learner.optimizer.clear()
        return seconds
