"""A run with a budget that is taken up again: it follows what was decided, and takes another length where asked."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.sessions import Screen, assert_same, log, state
from tests.train.test_budget import begin, short

from heedful.records import Progress, StepMetrics
from heedful.settings import load_config
from heedful.system.atomic import read_json, write_json
from heedful.train import deadline
from heedful.train.loop import total_steps
from heedful.train.ranks import Ranks
from heedful.train.resume import restore
from heedful.train.session import Session

KEPT = ("epochs", "max_steps", "evaluate_every")


def shortened(path: Path, lost_after: int | None = None, decide: Any = deadline.decide):  # type: ignore[no-untyped-def]
    """Train with a total that falls from 12 to 9 after step 5."""

    def during(metrics: StepMetrics) -> None:
        if metrics.step == 5:
            decide(made, 5, 9)
        if metrics.step == lost_after:
            raise KeyboardInterrupt

    made = begin(path, Screen(during), 1e6)
    made.budget.look = lambda config, rows, done, total, seconds: total  # type: ignore[union-attr]
    deadline.decide(made, 0, 12)
    made.fit()
    return made


def taken_up(path: Path, *settings: str, screen: Screen | None = None):  # type: ignore[no-untyped-def]
    """Resume a run with its own settings, and those named now over them."""
    kept = load_config(path / "config.yaml")
    resumed = short(path, screen, *(f"train.{k}={getattr(kept.train, k)}" for k in KEPT), *settings)
    restore(resumed)
    resumed.begin()
    return resumed


def test_a_run_shortened_on_the_way_ends_at_zero_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    """It is lost after step 7, and again before its first save."""
    whole = shortened(tmp_path / "whole")
    assert whole.progress.step == whole.run.config().train.max_steps == 9
    assert read_json(whole.run.budget_file) == {"0": 12, "5": 9}
    assert whole.learner.lr(9) == 0.0
    for lost_after in (7, 5):
        path = tmp_path / f"lost-{lost_after}"
        with pytest.raises(KeyboardInterrupt):
            shortened(path, lost_after)
        resumed = taken_up(path)
        resumed.fit()
        assert_same(state(whole), state(resumed))
        assert log(whole) == log(resumed)


@contextmanager
def killed_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kill what writes so many files of a run."""
    replace, written = os.replace, itertools.count(1)

    def killed(*paths: Path) -> None:
        replace(*paths)
        if next(written) == writes:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        yield


def test_a_kill_while_a_total_is_written_down_does_not_undo_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files tell of it; whoever resumes finds the first of them alone, and does steps again that were before."""
    whole = shortened(tmp_path / "whole")

    def decide(made: Session, step: int, total: int) -> None:
        with killed_after(1, monkeypatch):
            deadline.decide(made, step, total)

    with pytest.raises(KeyboardInterrupt):
        shortened(tmp_path / "killed", decide=decide)
    resumed = taken_up(tmp_path / "killed")
    assert resumed.run.config() == whole.run.config()
    resumed.fit()
    assert_same(state(whole), state(resumed))
    assert log(whole) == log(resumed)


@pytest.mark.parametrize(
    ("lost_after", "asked", "totals"),
    [(7, "train.max_steps=12", {"0": 12, "5": 9, "6": 12}), (5, "train.epochs=1", {"0": 12, "4": 6})],
)
def test_another_length_asked_for_at_a_resume_counts_from_there_on(
    tmp_path: Path, lost_after: int, asked: str, totals: dict[str, int]
) -> None:
    """Even if it is what the budget decided before. The run is lost once more, and then nothing is asked for."""
    with pytest.raises(KeyboardInterrupt):
        shortened(tmp_path, lost_after)
    taken_up(tmp_path, asked)
    again = taken_up(tmp_path)
    again.fit()
    last = [*totals.values()][-1]
    assert again.progress.step == total_steps(len(again.ready.train), again.run.config().train) == last
    assert read_json(again.run.budget_file) == totals
    assert (again.run.checkpoints / f"step-{last:06d}").is_dir()


@pytest.mark.parametrize("asked", ["train.max_steps=12", "train.epochs=1"])
def test_a_kill_while_another_length_is_written_down_loses_nothing_that_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    made = {}
    for writes in (0, 1, 2, 3):
        path = tmp_path / str(writes)
        with pytest.raises(KeyboardInterrupt):
            shortened(path, 5)
        if writes:
            with killed_after(writes, monkeypatch), pytest.raises(KeyboardInterrupt):
                taken_up(path, asked)
        made[writes] = taken_up(path, asked)
        made[writes].fit()
        assert_same(state(made[0]), state(made[writes]))
        assert log(made[0]) == log(made[writes])
        assert made[0].run.config() == made[writes].run.config()


def test_a_run_may_be_shortened_by_its_epochs_and_lengthened_again(tmp_path: Path) -> None:
    """Up to what its budget decided; further by train.max_steps."""
    with pytest.raises(KeyboardInterrupt):
        shortened(tmp_path, 4)
    ends = []
    for asked in (["train.epochs=1"], ["train.epochs=2"], ["train.epochs=3"], ["train.max_steps=15"]):
        resumed = taken_up(tmp_path, *asked)
        resumed.fit()
        ends.append(resumed.progress.step)
    assert ends == [6, 12, 12, 15]


def test_a_length_that_the_settings_alone_tell_of_counts(tmp_path: Path) -> None:
    """As earlier versions wrote down one that was asked for; the run is killed beyond what its budget decided."""

    def kill(metrics: StepMetrics) -> None:
        if metrics.step == 11:
            raise KeyboardInterrupt

    shortened(tmp_path)
    longer = taken_up(tmp_path, "train.max_steps=12", screen=Screen(kill))
    write_json(longer.run.budget_file, {"0": 12, "5": 9})
    with pytest.raises(KeyboardInterrupt):
        longer.fit()
    resumed = taken_up(tmp_path)
    assert (resumed.progress.step, resumed.learner.steps) == (10, 12)
    resumed.fit()
    assert resumed.progress.step == resumed.run.config().train.max_steps == 12


def test_another_rank_than_the_first_writes_down_no_length(tmp_path: Path) -> None:
    shortened(tmp_path)
    resumed = short(tmp_path, None, "train.max_steps=12")
    resumed.ranks = Ranks(1, 1, torch.device("cpu"))
    resumed.totals, resumed.progress = {0: 12, 5: 9}, Progress(step=9)  # as the first rank tells it
    deadline.resume(resumed, before=9)
    assert resumed.totals == {0: 12, 5: 9, 9: 12}
    assert read_json(resumed.run.budget_file) == {"0": 12, "5": 9}
