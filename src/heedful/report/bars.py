"""What is shown of work that goes on: a bar on a terminal, plain lines elsewhere. No torch in here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from heedful.records import StepMetrics
from heedful.report.console import err
from heedful.report.screen import say
from heedful.reporter import Reporter

_text = partial(TextColumn, markup=False)  # a file's name may hold brackets
QUIET = 20.0  # seconds after which a log should tell that the work goes on


class TrainingBar:
    """A live line under the training: loss, validation loss, tokens a second, time left. `also` is called after each
    step."""

    def __init__(self, progress: Progress, task: TaskID, total: int, also: Callable[[], None]) -> None:
        self.progress, self.task, self.total, self.also = progress, task, total, also
        self.validation = float("nan")
        self.seen: list[tuple[float, int]] = []
        self.text, self.spoke = "", time.monotonic()

    def step(self, metrics: StepMetrics) -> None:
        """Show a step; where there is no terminal, one plain line about every twentieth of the run."""
        self.seen = [*self.seen[-20:], (time.monotonic(), metrics.tokens)]
        seconds = self.seen[-1][0] - self.seen[0][0]
        rate = f"{(metrics.tokens - self.seen[0][1]) / seconds:,.0f} tokens/s" if seconds else ""
        validation = "" if math.isnan(self.validation) else f"  validation {self.validation:.3f}"
        self.text = f"loss {metrics.loss:.3f}{validation}  {rate}"
        self.progress.update(self.task, completed=metrics.step, total=self.total, description=self.text)
        if not err.is_terminal and (metrics.step == self.total or metrics.step % max(1, self.total // 20) == 0):
            err.print(f"step {metrics.step}/{self.total}  {self.text}")
        self.spoke = time.monotonic()
        self.also()

    def validate(self, done: int, total: int) -> None:
        """Show how many rows are validated; where there is no terminal, a plain line now and then."""
        text = f"validating {min(done, total):,} of {total:,} rows"
        self.progress.update(self.task, description=text if done < total else self.text)
        if not err.is_terminal and time.monotonic() - self.spoke > QUIET:
            self.spoke = time.monotonic()
            err.print(text)


@contextmanager
def training_bar(total: int, done: int, also: Callable[[], None]) -> Iterator[TrainingBar]:
    columns = (_text("step {task.completed}/{task.total}"), BarColumn(), _text("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=err, disable=not err.is_terminal) as progress:
        yield TrainingBar(progress, progress.add_task("", total=total, completed=done), total, also)


@contextmanager
def counting_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done; gives a function that takes the count. Where there is no terminal, show a
    plain line at the start, and one now and then."""
    columns = (_text("{task.description} {task.completed}/{task.total}"), BarColumn(), TimeRemainingColumn())
    if not err.is_terminal:
        say(f"{what} ({total})")
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        last = time.monotonic()

        def on_done(done: int) -> None:
            nonlocal last
            progress.update(task, completed=done)
            if not err.is_terminal and time.monotonic() - last > QUIET:
                last = time.monotonic()
                say(f"{what} ({done} of {total})")

        yield on_done


TERMINAL = Reporter(say, counting_bar)
