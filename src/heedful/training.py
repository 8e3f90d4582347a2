"""The verb `train`, top to bottom: a file of instructions and a pretrained model -> a run with its model and scores."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from heedful.begin import BUDGETED, SETTLED, Name, check_name, claim_folder, configure, resolve_run
from heedful.checking import prepare_data
from heedful.config import Config
from heedful.data.datamap import write_data_map
from heedful.encode.account import left_out_in_words
from heedful.encode.prepare import Prepared
from heedful.errors import Diverged, Interrupted, UsageError
from heedful.evaluate.base_and_tuned import remove_scores, score_both
from heedful.evaluate.rows import answered
from heedful.live import terminal_display
from heedful.provenance import provenance
from heedful.records import Conversation
from heedful.report import screen, track
from heedful.report.bars import TERMINAL
from heedful.report.labels import counted
from heedful.report.page import write_pages
from heedful.report.plots import loss_plot
from heedful.report.receipt import truncated
from heedful.run import Run, advising_if_moved, holds_run, run_at
from heedful.settings import Settings, leaves, override
from heedful.system import machine
from heedful.system.atomic import write_json
from heedful.system.heap import give_back_pages
from heedful.train import checkpoint, deadline
from heedful.train.precision import resolve
from heedful.train.ranks import Ranks, join_ranks
from heedful.train.result import write_model
from heedful.train.resume import restore
from heedful.train.session import Session, check, check_machine, load_fitting
from heedful.train.validation import ended_early

MANY_ANSWERS = 2_000
FEWER_ANSWERS = "A smaller data.test_share holds fewer rows back; evaluate.after_training=false leaves the answers out."
_TRAINING: dict[int, object] = {}  # by process: what is forked of one that trains may train itself


def train(
    data: Name = None,
    *,
    model: Name | Run = None,
    recipe: Name = None,
    settings: Settings = (),
    out: Path | str | None = None,
    resume: bool = False,
    budget: float | None = None,
) -> Run:
    """Turn a file of instructions and a pretrained model into a tuned one; give its run.

    With a `budget`, in seconds from here to the written model, the run is shortened to what this machine can do.
    Under torchrun all ranks train the same run, and rank 0 alone evaluates it.
    """
    started = time.perf_counter()
    check_name("out", out)
    if not isinstance(budget, int | float | None):
        raise UsageError(
            f"budget must be a number of seconds, not of type {type(budget).__name__}.", "Write 600 for 10m."
        )
    with ExitStack() as held:  # the run is ours until its last file is written; the other ranks may leave before
        held.enter_context(_alone())
        with join_ranks() as ranks:
            if not ranks.is_leader:
                screen.mute()
            config = configure(recipe, settings, data, model)
            resume = ranks.broadcast(lambda: resume or _was_begun(out, ranks))
            path, tree = ranks.broadcast(lambda: resolve_run(config, out, resume))
            run, config = Run(Path(path)), Config.model_validate(tree)
            track.check(config)
            _check(config, ranks, resume, budget)
            if ranks.is_leader:
                held.enter_context(claim_folder(run, resume))
            with _noted(run, ranks):
                rows = _train_and_write(run, config, ranks, resume, budget, started)
        if ranks.is_leader:
            if config.evaluate.after_training and rows and not answered(run, rows):
                _score(run, config, rows)
            screen.say(f"The report: {write_pages(run)}")
    return run


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the process's random numbers, which torch draws from one generator, and give them back as they were."""
    process, training = os.getpid(), object()
    if _TRAINING.setdefault(process, training) is not training:  # threads may ask at once
        raise UsageError(
            "Another training is going on in this process.", "Wait until it is done, or train in a process of its own."
        )
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        del _TRAINING[process]


@contextmanager
def _noted(run: Run, ranks: Ranks) -> Iterator[None]:
    """Keep of a training that diverges that it did."""
    try:
        yield
    except Diverged:
        if ranks.is_leader:
            write_json(run.provenance_file, run.provenance() | {"diverged": True})
        raise


def _was_begun(out: Path | str | None, ranks: Ranks) -> bool:
    """Say whether torchrun starts ranks again that had begun a run."""
    return out is not None and ranks.has_begun(run_at(out).path) and holds_run(out)


def _train_and_write(
    run: Run, config: Config, ranks: Ranks, resume: bool, budget: float | None, started: float
) -> Sequence[Conversation]:
    """Train on one of the ranks and let the leader write what comes of it; give the test rows, if one can be scored."""
    session = _open_session(run, config, ranks)
    if resume:
        restore(session)
    if budget is not None:
        deadline.fit_into(session, budget, started)
    session.begin()
    if ranks.is_leader:
        if not resume:
            keeps_best = config.train.keep == "best" and bool(session.ready.validation)
            checkpoint.say_if_short(run.checkpoints, session.learner.parameters.values(), keeps_best, screen.say)
        may_settle = (*SETTLED, *(BUDGETED if budget is not None else ()))
        _write_origin(session, {} if resume else {"asked": {leaf: leaves(config)[leaf] for leaf in may_settle}})
    made = ranks.broadcast(run.updates_in_model)
    heard = session.fit()
    if ranks.is_leader:
        _write_course(session)
    if heard:
        raise Interrupted(heard, run.path)
    if session.progress.step == made:
        early = ", as validations were no better (train.patience)" if ended_early(session) else ""
        screen.say(f"{run.path} is finished: it holds the model of all its {session.progress.step} updates{early}.")
    else:
        _replace_model(session)
    test = session.ready.splits.test if session.ready.scored else ()
    del session
    give_back_pages()
    return test


def _check(config: Config, ranks: Ranks, resume: bool, budget: float | None) -> None:
    """Refuse, before any work, what cannot be trained here, or not with a budget."""
    check_machine(config.train, ranks)
    if budget is not None and ranks.count > 1:
        raise UsageError(
            "--budget works in a single process only: each rank would measure time by its own clock.", "Leave it out."
        )
    if budget is not None and resume:
        raise UsageError("--budget is fixed when a run starts.", "Leave it out: a resumed run keeps its length.")


def _open_session(run: Run, config: Config, ranks: Ranks) -> Session:
    """Read the data and the model, and fit the forwards to the memory that there is."""
    here = Config.model_validate(ranks.broadcast(lambda: run.located(config).model_dump(mode="json")))
    with ranks.local_leader_first(), advising_if_moved() if holds_run(run) else nullcontext():
        ready, model_config = prepare_data(here)
    _tell(ready, config)
    ranks.check_rows(len(ready.train))
    config = override(config, {"train.precision": ranks.broadcast(lambda: resolve(config.train.precision))})
    if ranks.is_leader and ready.scored and config.evaluate.after_training and not torch.cuda.is_available():
        resolve(config.generate.precision, "generate.precision")  # now, and not after the training
    check(config, ready)
    config, loaded = load_fitting(config, here.model.name, model_config, ready, ranks, screen.say)
    display = terminal_display(config, ready, run if ranks.is_leader else None)
    return Session(run, config, ready, loaded, display, ranks)


def _tell(ready: Prepared, config: Config) -> None:
    """Say how many rows wait in each part, which parts are empty or smaller than asked, and which rows are cut or left
    out."""
    encoding, answered = ready.receipt["encoding"], ready.scored if config.evaluate.after_training else 0
    parts = f"{counted(len(ready.train), 'row')} to train on, {len(ready.validation):,} to validate on"
    screen.say(f"{parts}, {answered:,} to answer at the end.")
    if answered >= MANY_ANSWERS:
        screen.say(f"So many answers take long. {FEWER_ANSWERS}")
    for note in ready.receipt["data"]["notes"]:
        screen.say(note)
    if encoding["truncated"]:
        screen.say(f"Training rows truncated to at most {encoding['limit']:,} tokens: {truncated(encoding)}.")
    if not_validated := encoding["not_validated"]:
        rows = f"Of {len(ready.splits.validation):,} validation rows"
        screen.say(f"{rows} are left out of the validation loss: {left_out_in_words(not_validated)}.")
    if not_scored := encoding["not_scored"]:
        screen.say(f"Of {len(ready.splits.test):,} test rows will not be scored: {left_out_in_words(not_scored)}.")


def _score(run: Run, config: Config, rows: Sequence[Conversation]) -> None:
    """Answer the test rows with base and tuned, which a resumed run does if this one is interrupted."""
    try:
        score_both(run, config, rows, None, TERMINAL)
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT, run.path) from None


def _write_origin(session: Session, asked: dict[str, Any]) -> None:
    """Write what became of each row, and what the run comes from."""
    run, receipt = session.run, session.ready.receipt
    write_json(run.receipt_file, receipt)
    facts = {"model": session.origin, "data": receipt["data"]["sha256"], "fingerprint": session.fingerprint}
    told = provenance(run, session.progress.step, facts | {"ranks": session.ranks.count} | asked)
    told.pop("diverged", None)  # which the rest of the training shows again
    write_json(run.provenance_file, told)


def _write_course(session: Session) -> None:
    """Write how the training went: its loss curves, and what each row cost."""
    run, ready = session.run, session.ready
    loss_plot(run.metrics(), run.loss_plot)
    orders = [ready.order.epoch(epoch).rows for epoch in range(session.progress.epochs_begun)]
    write_data_map(run, orders, lambda k: ready.splits.train[ready.train.number(k)], len(ready.train))


def _replace_model(session: Session) -> None:
    """Write the run's model folder; just before it replaces an earlier one, that one's scores and pages are deleted."""
    run = session.run
    write_model(session, lambda: remove_scores(run))
    if session.ranks.is_leader:
        told = {"updates": session.progress.step, "peak_memory": machine.peak_memory()}
        write_json(run.provenance_file, run.provenance() | told)
