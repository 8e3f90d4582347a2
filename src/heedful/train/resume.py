"""How an interrupted training is taken up again: from the newest intact checkpoint, or from the start."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from heedful.address import redacted
from heedful.errors import RunError, UsageError
from heedful.records import Progress
from heedful.run import MOVED
from heedful.system.atomic import read_json
from heedful.train import checkpoint, deadline
from heedful.train.checkpoint import Checkpoint
from heedful.train.loop import total_steps
from heedful.train.session import Session


def restore(session: Session) -> None:
    """Bring a session to where its run was interrupted; the leader reads the checkpoint for all ranks."""
    found = _newest(session) if session.ranks.is_leader else None
    told = session.ranks.broadcast(lambda: _standing(session, found))
    session.progress = Progress(**told["progress"])
    session.losses, session.best = told["losses"], told["best"]
    session.totals = {int(step): total for step, total in told["totals"].items()}
    if session.progress.step > session.learner.steps:
        raise UsageError(
            f"{session.run.path} made {session.progress.step} updates already, more than {session.learner.steps}.",
            "Leave train.epochs and train.max_steps as they were, or raise them.",
        )
    if session.totals:
        deadline.resume(session, told["steps"])
    if session.progress.step:
        session.learner.load(found.weights if found else {}, found.moments if found else {})


def _standing(session: Session, found: Checkpoint | None) -> dict[str, Any]:
    """Tell how far a run came: its progress, its validations, and under a budget the totals of steps so far, with that
    of its settings."""
    run = session.run
    validations = (event["validation_loss"] for event in run.metrics() if event["event"] == "validation")
    losses = [math.inf if loss is None else loss for loss in validations]
    totals = read_json(run.budget_file) if run.budget_file.is_file() else {}
    return {
        "progress": asdict(found.progress if found else Progress()),
        "losses": losses,
        "best": checkpoint.best_loss(run.checkpoints, losses),
        "totals": totals,
        "steps": total_steps(len(session.ready.train), run.config().train) if totals else None,
    }


def _newest(session: Session) -> Checkpoint | None:
    """Find the checkpoint to continue from, and remove what the run left behind beyond it."""
    run, say = session.run, session.display.say
    if "diverged" in run.provenance():
        say("This training diverged before, and with the same settings it will again.")
    found = checkpoint.newest(run.checkpoints, say)
    if found is None:
        say("No checkpoint to resume from: starting at step 0.")
        checkpoint.forget_after(run.checkpoints, 0)
        run.cut_metrics(0)
        session.row_losses.forget_from(0)
        return None
    for name in sorted(found.fingerprint.keys() | session.fingerprint.keys()):
        if found.fingerprint.get(name) != session.fingerprint.get(name):
            of_data = name == "examples"
            what = f"examples, read from {redacted(run.located(session.config).data.path)}," if of_data else name
            raise RunError(
                f"Cannot resume {run.path}: its {what} changed since {found.path.name} was saved.",
                f"Restore it, or start another run. {MOVED if of_data else ''}".strip(),
            )
    trained = {name: tuple(p.shape) for name, p in session.learner.parameters.items()}
    if trained != {name: tuple(weight.shape) for name, weight in found.weights.items()}:
        raise RunError(
            f"Cannot resume {run.path}: {found.path.name} holds adapters of other layers or sizes than now.",
            "Start another run.",
        )
    checkpoint.forget_after(run.checkpoints, found.progress.step)
    run.cut_metrics(found.metrics_bytes)
    _forget_rows(session, found.progress)
    say(f"Resuming from {found.path.name}.")
    return found


def _forget_rows(session: Session, progress: Progress) -> None:
    """Forget the losses of rows that will be trained on again."""
    epoch, rows = progress.epoch, progress.cursor * session.config.train.batch_size
    session.row_losses.forget_from(epoch, session.ready.order.epoch(epoch).rows[:rows].tolist())
