"""A resumed run keeps the best weights that it had, if they are whole and of its own part."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from tests.train.sessions import Crash, crash_at, session, signal_at

from heedful.errors import RunError
from heedful.train import checkpoint
from heedful.train.result import write_model
from heedful.train.resume import restore


@pytest.mark.parametrize("file", ["model.safetensors", "state.json"])
def test_damaged_best_weights_are_named_and_can_be_gone_without(tmp_path: Path, file: str) -> None:
    trained = session(tmp_path / "run")
    trained.fit()
    best = checkpoint.best(trained.run.checkpoints)
    assert best is not None
    (best / file).write_bytes(b"")
    with pytest.raises(RunError, match=f"Remove {best}"):
        write_model(trained)
    with pytest.raises(RunError, match=f"Remove {best}"):
        restore(session(tmp_path / "run"))
    shutil.rmtree(best)
    write_model(trained)
    assert trained.run.has_model


def test_a_run_that_stopped_early_does_not_go_on_when_resumed(tmp_path: Path) -> None:
    settings = ("train.patience=1", "train.lr=0.5", "train.evaluate_every=1", "train.epochs=5")
    stopped = session(tmp_path / "run", *settings)
    assert stopped.fit() == 0
    assert stopped.progress.step < stopped.learner.steps
    resumed = session(tmp_path / "run", *settings)
    restore(resumed)
    assert resumed.fit() == 0
    assert resumed.progress == stopped.progress
    patient = session(tmp_path / "run", *settings[1:])
    restore(patient)
    assert patient.fit() == 0
    assert patient.progress.step == patient.learner.steps


def test_a_signal_in_the_update_that_ends_by_patience_is_heard(tmp_path: Path) -> None:
    settings = ("train.patience=1", "train.lr=0.5", "train.evaluate_every=1", "train.epochs=5")
    whole = session(tmp_path / "whole", *settings)
    assert whole.fit() == 0
    stopped = session(tmp_path / "run", *settings, screen=signal_at(whole.progress.step))
    assert stopped.fit() == signal.SIGTERM
    assert stopped.progress == whole.progress


def test_a_run_without_best_weights_keeps_the_next(tmp_path: Path) -> None:
    """Earlier versions kept none while the base was better: what they did not keep is no best to beat."""
    settings = ("train.save_every=4", "train.evaluate_every=1")
    killed = session(tmp_path / "run", *settings, screen=crash_at(7))
    with pytest.raises(Crash):
        killed.fit()
    for folder in killed.run.checkpoints.glob("best-*"):
        shutil.rmtree(folder)
    resumed = session(tmp_path / "run", *settings)
    restore(resumed)
    resumed.losses = [0.0] * len(resumed.losses)
    resumed.fit()
    best = checkpoint.best(resumed.run.checkpoints)
    assert best is not None
    assert json.loads((best / "state.json").read_text())["loss"] == pytest.approx(min(resumed.losses[5:]))


def test_best_weights_of_a_lost_part_are_forgotten(tmp_path: Path) -> None:
    settings = ("train.save_every=4", "train.evaluate_every=1")
    killed = session(tmp_path / "run", *settings, screen=crash_at(7))
    with pytest.raises(Crash):
        killed.fit()
    steps = [int(f.name[5:]) for f in killed.run.checkpoints.glob("best-*")]
    assert max(steps) > 4
    restore(session(tmp_path / "run", *settings))
    assert max(int(f.name[5:]) for f in killed.run.checkpoints.glob("best-*")) <= 4
