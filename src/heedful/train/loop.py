"""The training loop, top to bottom: learn, update, log, validate, save."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from heedful.config import TrainConfig
from heedful.encode.order import Order
from heedful.errors import Diverged
from heedful.records import Progress, StepMetrics

if TYPE_CHECKING:
    from heedful.train.session import Session

BAD_STEPS = 3  # updates in a row without a finite loss before the run is stopped


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one update, and the progress when it is done."""

    rows: list[int]
    progress: Progress
    ends_epoch: bool


def fit(session: Session) -> int:
    """Update the model once per group, from where the session stands; return the signal that ended it, or 0.

    `session.follow` may change `learner.steps`, the total, on the way: a run with a budget does.
    """
    learner, examples, config = session.learner, session.ready.train, session.config.train
    validate_every = evaluate_every(learner.steps, config)
    progress, signal = session.progress, 0
    for group in session.groups(progress):
        started = time.perf_counter()
        rows = [examples[i] for i in group.rows]
        loss, row_nll = learner.accumulate(rows, progress.step)
        grad_norm = learner.update(progress.step, loss)
        targets = [int(row.supervised.sum()) for row in rows]
        session.keep_row_losses(progress.epoch, group.rows, row_nll, targets)
        progress = replace(
            group.progress,
            tokens=progress.tokens + sum(len(row) for row in rows),
            bad_steps=0 if math.isfinite(loss + grad_norm) else progress.bad_steps + 1,
        )
        metrics = StepMetrics(
            step=progress.step,
            epoch=epoch_of(progress.step, len(examples), config),
            loss=loss,
            targets=sum(targets),
            tokens=progress.tokens,
            lr=learner.lr(progress.step - 1),
            grad_norm=grad_norm,
            seconds=round(time.perf_counter() - started, 4),
        )
        session.follow(metrics)
        last = progress.step >= learner.steps
        if progress.step % config.log_every == 0 or last:
            session.log({"event": "step", **asdict(metrics)})
        if progress.bad_steps:
            _note_bad_step(session, progress, [row.id for row in rows])
        stale = (progress.step % validate_every == 0 or last) and session.validate(progress)
        if group.ends_epoch or last:
            session.sample(progress)
        signal = session.interrupted()  # asked once, and always: what ends the loop was saved
        stop = stale or signal or last
        if progress.step % config.save_every == 0 or stop:
            session.save(progress)
        if stop:
            break
    session.progress = progress
    return signal


def total_steps(rows: int, config: TrainConfig) -> int:
    """Count the updates of a whole run."""
    steps = steps_per_epoch(rows, config) * config.epochs
    return min(steps, config.max_steps or steps)


def steps_per_epoch(rows: int, config: TrainConfig) -> int:
    """Count the updates of one epoch."""
    return rows // config.batch_size if config.drop_last else math.ceil(rows / config.batch_size)


def evaluate_every(steps: int, config: TrainConfig) -> int:
    """Return the updates between two validations: four to a run, where nothing else is asked for."""
    return config.evaluate_every or math.ceil(steps / 4)


def epoch_of(step: int, rows: int, config: TrainConfig) -> float:
    """Return the epochs that are done after so many updates, for people to read."""
    return round(step / steps_per_epoch(rows, config), 4)


def upcoming(order: Order, progress: Progress, epochs: int) -> Iterator[Group]:
    """Slice the order: every group of so many epochs from `progress` on; train.max_steps may end the run before."""
    for epoch in range(progress.epoch, epochs):
        groups = order.epoch(epoch)
        first = progress.cursor if epoch == progress.epoch else 0
        for cursor, group in enumerate(groups[first:], start=first):
            ends = cursor + 1 == len(groups)
            progress = replace(progress, step=progress.step + 1, epoch=epoch + ends, cursor=0 if ends else cursor + 1)
            yield Group(group, progress, ends)


def _note_bad_step(session: Session, progress: Progress, rows: list[str]) -> None:
    """Log an update that was skipped; stop when they do not end."""
    session.log({"event": "skipped", "step": progress.step, "reason": "loss or gradient not finite", "rows": rows})
    if progress.bad_steps == BAD_STEPS:
        raise Diverged(
            f"{BAD_STEPS} updates in a row were not finite, the last at step {progress.step} (rows {', '.join(rows)})."
        )
