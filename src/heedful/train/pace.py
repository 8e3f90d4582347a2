"""How fast a session trains here: what each part of it costs, measured before it begins."""

from __future__ import annotations

import shutil
import time
from itertools import islice
from typing import TYPE_CHECKING

from heedful.records import Progress
from heedful.system.atomic import beside
from heedful.train import checkpoint, validation
from heedful.train.budget import Costs
from heedful.train.loop import steps_per_epoch

if TYPE_CHECKING:
    from heedful.train.session import Session

GROUPS = 5  # whose gradients are measured; the first pays for warming up
UPDATE = 0.12  # of the gradient's time: what AdamW takes besides, until whole updates were measured


def measure(session: Session) -> Costs:
    """Measure what each part of a training costs; gradients are thrown away and the model is as before."""
    costs, learner, train = Costs(), session.learner, session.config.train
    costs.step = (1 + UPDATE) * _gradient_seconds_per_token(session) * tokens_per_update(session)
    if session.ready.validation:
        some = session.ready.validation[: train.batch_size]
        trained = min((train.evaluate_batches or 0) * train.batch_size, len(session.ready.train))
        rows = len(validation.rows(session)) + trained
        with costs.timed("validation"):
            learner.validate(some)
        costs.validation *= rows / len(some)
    with costs.timed("sample"):
        session.display.sample(learner.model)
    folder = beside(session.run.checkpoints / "measure")  # `Session.begin` removes what a kill left
    with costs.timed("model"):
        checkpoint.write(folder, learner.optimizer.masters)
    shutil.rmtree(folder)
    costs.save = 3 * costs.model  # the masters and their two moments
    return costs


def tokens_per_update(session: Session) -> float:
    """Return the tokens of an update, in the mean."""
    rows, train = session.ready.train, session.config.train
    return float(rows.tokens.mean()) * min(train.batch_size, len(rows) / steps_per_epoch(len(rows), train))


def _gradient_seconds_per_token(session: Session) -> float:
    """Time the gradients of the first groups, and their norms."""
    learner = session.learner
    measured = []
    for group in islice(session.groups(Progress()), min(GROUPS, learner.steps)):
        examples = [session.ready.train[i] for i in group.rows]
        started = time.perf_counter()
        learner.accumulate(examples, step=0)
        learner.optimizer.norm()
        measured.append((time.perf_counter() - started, sum(map(len, examples))))
        learner.optimizer.clear()
    later = measured[1:] or measured
    return sum(seconds for seconds, _ in later) / sum(tokens for _, tokens in later)
