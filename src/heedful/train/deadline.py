"""A session with a budget: how many updates it makes is decided before the first, and again on the way.

The totals that were decided are kept as {step: total from that step on} in the run's budget.json. The learning rate is
a function of step and total, so a resumed run that follows the same totals is the same run bit for bit.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from heedful.errors import BudgetTooShort
from heedful.records import StepMetrics
from heedful.run import holds_run
from heedful.system.atomic import write_json
from heedful.train import validation
from heedful.train.budget import Budget
from heedful.train.loop import evaluate_every
from heedful.train.pace import measure, tokens_per_update

if TYPE_CHECKING:
    from heedful.train.session import Session


def fit_into(session: Session, seconds: float, started: float) -> None:
    """Shorten the run, and its schedule: its model is written `seconds` after `started` (in `perf_counter`)."""
    train, rows, most = session.config.train, len(session.ready.train), session.learner.steps
    session.costs = measure(session)
    session.budget = Budget(seconds, started + seconds, session.costs, most)
    steps = session.budget.fit(train, rows, 0)
    if steps == 0:
        need = time.perf_counter() - started + session.costs.remaining(train, rows, 0, 1)
        validated = len(validation.rows(session))
        twice = f", validating {validated:,} rows twice" if validated else ""
        raise BudgetTooShort(
            f"The budget of {seconds:.0f} s is too short: loading, one step{twice} and saving take {need:.0f} s here.",
            "Give a longer --budget" + (", or validate on fewer rows (train.evaluate_batches)." if validated else "."),
            need,
        )
    speed = tokens_per_update(session) / session.costs.step
    session.display.say(f"{speed:,.0f} tokens/s here: {steps} of {most} steps fit into {seconds:.0f} s.")
    decide(session, 0, steps)


def keep(session: Session, metrics: StepMetrics) -> None:
    """Keep to the budget after an update, or to what an earlier one decided."""
    take_up(session, metrics.step)
    if session.budget is not None:
        train, rows, total = session.config.train, len(session.ready.train), session.learner.steps
        wanted = session.budget.look(train, rows, metrics.step, total, metrics.seconds)
        if wanted != total:
            session.display.say(f"step {metrics.step}: {wanted} steps in all keep the budget.")
            decide(session, metrics.step, wanted)


def take_up(session: Session, step: int) -> None:
    """Take the total that an earlier budget decided to count from `step` on."""
    if session.budget is None and session.totals:
        session.learner.steps = total_at(session.totals, step)


def total_at(totals: dict[int, int], step: int) -> int:
    """Return the total that counts from `step` on."""
    return totals[max(start for start in totals if start <= step)]


def decide(session: Session, step: int, total: int) -> None:
    """Train `total` steps, from `step` on; the decision is kept for whoever resumes the run.

    The totals are written first: one that the settings do not tell yet is taken up by `resume`.
    """
    session.totals[step] = session.learner.steps = total
    write_totals(session)
    session.settle({"train.max_steps": total, "train.evaluate_every": evaluate_every(total, session.config.train)})


def write_totals(session: Session) -> None:
    """Keep what was decided, once the run has begun."""
    if session.totals and session.ranks.is_leader and holds_run(session.run):
        write_json(session.run.budget_file, session.totals)


def resume(session: Session, before: int) -> None:
    """Settle how long a resumed run is; `before` is what its settings tell, without those that are asked for now.

    Where a kill came before the settings told of the last decision, no checkpoint had reached its step. Any other
    length in the settings was asked for, now or of an earlier version, which kept it there alone: it counts from here.
    """
    totals, step, asked = session.totals, session.progress.step, session.learner.steps
    latest = max(totals)
    if asked == totals[latest]:
        return
    if asked == before and step < latest:
        session.settle({"train.max_steps": totals[latest]})
    else:
        session.totals = {start: total for start, total in totals.items() if start < step} | {step: asked}
        write_totals(session)  # before the settings: a kill between leaves it to be asked for again
