"""An update that is not finite changes nothing, and a run whose updates stay bad ends."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from tests.train.sessions import assert_same, log, session, state

import heedful
from heedful.cli import main
from heedful.errors import Diverged, RunError
from heedful.report.page import write_pages
from heedful.run import Run
from heedful.train import learner as learners
from heedful.train.loop import BAD_STEPS
from heedful.train.resume import restore


class Poison:
    """Makes the loss not finite at some steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: set[int], value: float = math.nan) -> None:
        real = learners.Learner.accumulate

        def accumulate(this: learners.Learner, examples, step: int) -> tuple[float, list[float]]:  # type: ignore[no-untyped-def]
            loss, each = real(this, examples, step)
            if step + 1 in steps and math.isnan(value):
                next(iter(this.parameters.values())).grad.fill_(math.nan)  # type: ignore[union-attr]
            return (value if step + 1 in steps else loss), each

        monkeypatch.setattr(learners.Learner, "accumulate", accumulate)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_update_that_is_not_finite_is_skipped_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    Poison(monkeypatch, {2}, value)
    trained = session(tmp_path / "run", "train.max_steps=3", "train.evaluate_every=99")
    seen = []
    trained.display.bar(0, 0)
    real = trained.learner.update

    def update(step: int, loss: float) -> float:
        before = state(trained)
        norm = real(step, loss)
        seen.append(
            any(not torch.equal(before[name], value) for name, value in state(trained).items() if name in before)
        )
        return norm

    trained.learner.update = update  # type: ignore[method-assign]
    trained.fit()
    assert seen == [True, False, True]
    text = trained.run.metrics_file.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (skipped,) = [event for event in log(trained) if event["event"] == "skipped"]
    assert skipped["step"] == 2
    assert skipped["rows"] == [trained.ready.train[i].id for i in trained.ready.order.epoch(0)[1]]
    assert all(torch.isfinite(value).all() for value in state(trained).values())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_though_the_loss_is(tmp_path: Path, value: float) -> None:
    trained = session(tmp_path / "run")
    before = state(trained)
    loss, _ = trained.learner.accumulate(trained.ready.train[:4], 0)
    next(iter(trained.learner.parameters.values())).grad.fill_(value)  # type: ignore[union-attr]
    assert not math.isfinite(trained.learner.update(0, loss)) and math.isfinite(loss)
    assert_same(before, state(trained))


def test_bad_updates_that_good_ones_part_do_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Poison(monkeypatch, {1, 2, 4, 5})
    trained = session(tmp_path / "run", "train.max_steps=6")
    assert trained.fit() == 0
    assert [event["step"] for event in log(trained) if event["event"] == "skipped"] == [1, 2, 4, 5]


def test_the_run_stops_when_updates_stay_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Poison(monkeypatch, {3, 4, 5, 6})
    trained = session(tmp_path / "run", "train.save_every=2")
    with pytest.raises(RunError, match=rf"{BAD_STEPS} updates in a row.*step 5"):
        trained.fit()
    assert all(torch.isfinite(value).all() for value in state(trained).values())


def test_a_resumed_run_stops_where_the_uninterrupted_run_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoint lies within the row of bad updates."""
    Poison(monkeypatch, {3, 4, 5})
    for resumed in (False, True):
        trained = session(tmp_path / "run", "train.save_every=4")
        if resumed:
            restore(trained)
            assert trained.progress.step == 4
        with pytest.raises(Diverged, match="step 5"):
            trained.fit()
    assert [event["step"] for event in log(trained) if event["event"] == "skipped"] == [3, 4, 5]


def test_a_checkpoint_before_the_first_update_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimizer that never stepped has no moments."""
    Poison(monkeypatch, {1})
    session(tmp_path / "run", "train.max_steps=1").fit()
    restore(session(tmp_path / "run", "train.max_steps=1"))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_that_diverges_says_so_and_leaves_no_model(
    keep: str, tiny_folder: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sample cannot be answered either, which ends nothing; what was learned is in a checkpoint."""
    settings = {"train.lr": 1e25, "train.max_steps": 2, "train.keep": keep}
    with pytest.raises(RunError, match=r"diverged: its validation loss is not finite.*lower train\.lr"):
        heedful.train(rows_file, model=str(tiny_folder), settings=settings, out=tmp_path / "run")
    run = Run(tmp_path / "run")
    assert not run.has_model and run.diverged
    assert [folder.name for folder in run.checkpoints.iterdir()] == ["step-000002"]
    assert "sample: none. The model's logits are NaN or infinite." in capsys.readouterr().err
    for verb in (
        heedful.evaluate,
        heedful.export,
        lambda run: heedful.generate(run, ["a"]),
        lambda run: heedful.compare(run, shutil.copytree(run.path, tmp_path / "other")),
    ):
        with pytest.raises(Diverged, match=r"holds no model: its training diverged\. Start another run"):
            verb(run)
    page = write_pages(run).read_text(encoding="utf-8")
    assert "The training diverged, and there is no model." in page and "2 of 3 validations gave no finite loss" in page
    with pytest.raises(Diverged):
        heedful.train(out=run.path, resume=True)
    assert "This training diverged before, and with the same settings it will again." in capsys.readouterr().err


def test_updates_that_stay_bad_are_a_divergence(
    tiny_folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        Poison(patch, {3, 4, 5})
        with pytest.raises(Diverged):
            heedful.train(rows_file, model=str(tiny_folder), settings={"train.save_every": 1}, out=tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.diverged
    for command in (f"check --run {run.path}", f"push {run.path} --to me/model"):
        with pytest.raises(SystemExit, match="1"):
            main(command.split())
        assert "holds no model: its training diverged. Start another run" in " ".join(capsys.readouterr().err.split())
    heedful.train(out=run.path, resume=True, settings={"evaluate.after_training": False})
    assert run.has_model and not run.diverged and "diverged" not in run.provenance()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_validation_loss_that_never_was_finite_is_no_divergence(
    keep: str, tiny_folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As where the base model holds an answer's token for impossible."""
    monkeypatch.setattr(learners.Learner, "validate", lambda *arguments: (math.inf, 5))
    settings = {"train.max_steps": 2, "train.keep": keep, "evaluate.after_training": False}
    run = heedful.train(rows_file, model=str(tiny_folder), settings=settings, out=tmp_path / "run")
    assert run.has_model
    told = " ".join(capsys.readouterr().err.split())
    assert ("No validation loss is finite: the last weights become the model." in told) == (keep == "best")
