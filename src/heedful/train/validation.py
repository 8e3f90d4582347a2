"""What a session's validations look at and find, and what follows: weights that are kept, a run that ends early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heedful.errors import Interrupted
from heedful.records import Progress, TokenizedExample
from heedful.train import checkpoint
from heedful.train.loop import epoch_of

if TYPE_CHECKING:
    from heedful.train.session import Session


def validate(session: Session, progress: Progress) -> bool:
    """Compute the validation loss, log it and keep the best weights; say whether to give up."""
    learner, train = session.learner, session.config.train
    found: dict[str, Any] = {
        "event": "validation",
        "step": progress.step,
        "epoch": epoch_of(progress.step, len(session.ready.train), train),
    }
    watch = _Watch(session, progress)
    loss, targets = watch.loss(rows(session))
    if train.evaluate_batches:
        found["train_loss"], _ = watch.loss(_first_rows(session, progress))
    session.log(found | {"validation_loss": loss, "targets": targets, "tokens": progress.tokens})
    session.bar.validation = loss
    session.display.say(f"step {progress.step}: validation loss {loss:.4f}")
    if progress.step and loss < session.best and train.keep == "best":
        session.best = loss
        _write_best(session, progress.step)
    session.losses.append(loss if math.isfinite(loss) else math.inf)
    if is_stale(session) and progress.step < learner.steps:
        waited = train.patience
        session.display.say(f"step {progress.step}: no better in {waited} validations, so the training ends here.")
    return is_stale(session)


def rows(session: Session) -> Sequence[TokenizedExample]:
    """Return the validation rows that are looked at."""
    limit, every = session.config.train.evaluate_batches, session.ready.validation
    return every[: limit * session.config.train.batch_size] if limit else every


def is_stale(session: Session) -> bool:
    """Say whether the last `train.patience` validations brought no new best."""
    patience, losses = session.config.train.patience, session.losses
    return patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def ended_early(session: Session) -> bool:
    """Say whether `train.patience` ended the run before its last update."""
    return is_stale(session) and session.progress.step < session.learner.steps


class _Watch:
    """Shows how far a validation is, and hears a signal meanwhile.

    Before the first update it ends a single process at once, as nothing is lost. Any later validation is made to its
    end: the checkpoint comes after it, and a resumed run must not miss it.
    """

    def __init__(self, session: Session, progress: Progress) -> None:
        self.session, self.step, self.told = session, progress.step, False

    def loss(self, examples: Sequence[TokenizedExample]) -> tuple[float, int]:
        """Compute what these rows cost."""
        return self.session.learner.validate(examples, lambda done: self._see(done, len(examples)))

    def _see(self, done: int, total: int) -> None:
        heard, ranks = self.session.stop.signal, self.session.ranks.count
        self.session.bar.validate(done * ranks, total)
        if not heard or self.told:
            return
        if self.step == 0 and ranks == 1:
            raise Interrupted(heard, self.session.run.path)
        until = "this validation" if self.step else "the first update"
        self.session.display.say(f"The run ends after {until}, with a checkpoint; a second signal ends it now.")
        self.told = True


def _first_rows(session: Session, progress: Progress) -> list[TokenizedExample]:
    """Return the first training rows of this epoch's order, of as many batches as validation looks at."""
    plan = session.ready.order.epoch(min(progress.epoch, session.config.train.epochs - 1))
    return [session.ready.train[i] for rows in plan[: session.config.train.evaluate_batches] for i in rows]


def _write_best(session: Session, step: int) -> None:
    """Keep these weights, and remove those that were the best before."""
    weights = session.learner.weights()
    if session.ranks.is_leader:
        best = session.run.checkpoints / f"best-{step:06d}"
        checkpoint.write(best, weights, state={"step": step, "loss": session.best})
        checkpoint.prune(session.run.checkpoints)
