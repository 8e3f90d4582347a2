"""Interrupted and resumed is uninterrupted, bit for bit; the kill -9 of a real process is in tests/test_kill.py."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from tests.train.sessions import Crash, Screen, assert_same, crash_at, log, session, signal_at, state

from heedful.errors import RunError, UsageError
from heedful.model import adapters
from heedful.train import checkpoint, precision
from heedful.train.result import write_model
from heedful.train.resume import restore

CASES = {
    "full": (4, ()),
    "lora": (4, ("train.method=lora",)),
    "dropout": (5, ("model.dropout=0.2",)),
    "padded": (4, ("encode.layout=padded", "encode.batch_tokens=120")),
    "bf16": (4, ("train.precision=bf16",)),
    "bf16-lora": (4, ("train.precision=bf16", "train.method=lora")),
    "no-best": (4, ("train.keep=last", "train.log_every=3")),
}
KILLED = [*((name, 7) for name in CASES), ("full", 2), ("full", 6), ("full", 12), ("lora", 6), ("dropout", 12)]


@pytest.fixture(autouse=True)
def _pretend_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda: True)


@pytest.mark.parametrize(("name", "step"), KILLED)
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, name: str, step: int) -> None:
    """Invariant 8: 22 rows by 4 are 6 updates an epoch; killed before a save, at an epoch's end, in the middle."""
    every, more = CASES[name]
    settings = (*more, f"train.save_every={every}")
    whole = session(tmp_path / "whole", *settings)
    assert whole.fit() == 0
    killed = session(tmp_path / "killed", *settings, screen=crash_at(step))
    with pytest.raises(Crash):
        killed.fit()
    resumed = session(tmp_path / "killed", *settings)
    restore(resumed)
    assert resumed.progress.step == (step - 1) // every * every
    assert resumed.fit() == 0
    assert_same(state(whole), state(resumed))
    assert log(whole) == log(resumed)
    assert whole.run.row_losses_file.read_bytes() == resumed.run.row_losses_file.read_bytes()
    assert whole.progress == resumed.progress
    names = [sorted(f.name for f in trained.run.checkpoints.iterdir()) for trained in (whole, resumed)]
    assert names[0] == names[1]


@pytest.mark.parametrize("step", [1, 6, 7, 12])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_signal_saves_and_ends_the_run_after_its_step(tmp_path: Path, step: int, method: str) -> None:
    settings = (f"train.method={method}", "model.dropout=0.1")
    whole = session(tmp_path / "whole", *settings)
    whole.fit()
    stopped = session(tmp_path / "stopped", *settings, screen=signal_at(step))
    assert stopped.fit() == signal.SIGTERM
    assert stopped.progress.step == step
    assert [f.name for f in sorted(stopped.run.checkpoints.glob("step-*"))] == [f"step-{step:06d}"]
    resumed = session(tmp_path / "stopped", *settings)
    restore(resumed)
    assert resumed.progress == stopped.progress
    assert resumed.fit() == 0
    assert_same(state(whole), state(resumed))
    assert log(whole) == log(resumed)


def test_the_handlers_are_put_back_and_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trained = session(tmp_path / "run", screen=signal_at(2, signal.SIGHUP))
        assert trained.fit() == 0  # as under nohup
    finally:
        signal.signal(signal.SIGHUP, hangup)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_damaged_checkpoint_goes_back_to_the_one_before(tmp_path: Path) -> None:
    settings = ("train.save_every=2",)
    whole = session(tmp_path / "whole", *settings)
    whole.fit()
    killed = session(tmp_path / "killed", *settings, screen=crash_at(11))
    with pytest.raises(Crash):
        killed.fit()
    file = tmp_path / "killed/checkpoints/step-000010/optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    screen = Screen()
    resumed = session(tmp_path / "killed", *settings, screen=screen)
    restore(resumed)
    assert resumed.progress.step == 8
    assert checkpoint.best(resumed.run.checkpoints) is not None  # that of step 8, or from before
    assert "step-000010" in screen.said[0]
    resumed.fit()
    assert_same(state(whole), state(resumed))
    assert log(whole) == log(resumed)


@pytest.mark.parametrize("what", ["rows", "model"])
def test_other_data_or_another_model_cannot_be_resumed(tmp_path: Path, what: str) -> None:
    stopped = session(tmp_path / "run", "train.method=lora", screen=signal_at(3))
    stopped.fit()
    changed = {"rows": {"rows": 23}, "model": {"seed": 1}}[what]
    other = session(tmp_path / "run", "train.method=lora", **changed)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="examples, read from builtin, changed" if what == "rows" else "model changed"):
        restore(other)


def test_adapters_of_other_layers_cannot_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those were that left experts alone."""
    adapted = adapters.adapted
    with monkeypatch.context() as once:
        once.setattr(adapters, "adapted", lambda model: (adapted(model)[0], []))
        stopped = session(tmp_path / "run", "train.method=lora", screen=signal_at(3), kind="llama4_text")
    stopped.fit()
    with pytest.raises(RunError, match=r"step-000003 holds adapters of other layers .* Start another run"):
        restore(session(tmp_path / "run", "train.method=lora", kind="llama4_text"))
    assert (stopped.run.checkpoints / "step-000003").is_dir()


def test_losses_of_rows_that_are_trained_again_are_forgotten(tmp_path: Path) -> None:
    """Killed at step 11, resumed at 8 of 6 an epoch: two groups of the second epoch were learned."""
    killed = session(tmp_path / "run", "train.save_every=4", screen=crash_at(11))
    with pytest.raises(Crash):
        killed.fit()
    assert np.isfinite(killed.row_losses.per_token()[0]).sum(axis=1).tolist() == [22, 20]
    resumed = session(tmp_path / "run", "train.save_every=4")
    restore(resumed)
    assert np.isfinite(resumed.row_losses.per_token()[0]).sum(axis=1).tolist() == [22, 8]


def test_nothing_stays_of_a_run_that_was_killed_before_it_saved(tmp_path: Path) -> None:
    """What follows may be trained by other settings: no loss of a row and no best weights of before may stay."""
    killed = session(tmp_path / "run", "train.evaluate_every=1", screen=crash_at(3))
    with pytest.raises(Crash):
        killed.fit()
    assert checkpoint.best(killed.run.checkpoints)
    restore(session(tmp_path / "run", "train.evaluate_every=1"))
    assert checkpoint.best(killed.run.checkpoints) is None
    assert log(killed) == []
    assert killed.run.row_losses_file.read_bytes() == b""


def test_the_log_is_cut_back_even_if_it_lost_its_end(tmp_path: Path) -> None:
    whole = session(tmp_path / "whole", "train.save_every=4")
    whole.fit()
    stopped = session(tmp_path / "run", "train.save_every=4", screen=crash_at(6))
    with pytest.raises(Crash):
        stopped.fit()
    file = stopped.run.metrics_file
    file.write_bytes(file.read_bytes() + b'{"event": "st')  # killed while writing
    resumed = session(tmp_path / "run", "train.save_every=4")
    restore(resumed)
    resumed.fit()
    assert log(resumed) == log(whole)
    file.unlink()
    restore(session(tmp_path / "run", "train.save_every=4"))
    assert file.read_bytes() == b""  # no NUL bytes


def test_what_a_kill_left_half_written_goes_when_the_run_begins(tmp_path: Path) -> None:
    dead, alive = 4194305, os.getppid()
    run = tmp_path / "run"
    for name in (f".model.tmp-{dead}", f".model.tmp-old-{dead}", f"checkpoints/.step-000002.tmp-{dead}"):
        (run / name).mkdir(parents=True)
    (run / f".merged.tmp-{alive}").mkdir()  # of an export into the run's folder, which goes on
    kept = [f".merged.tmp-{alive}", f".report.html.tmp-{alive}", ".notes.tmp-mine"]
    for name in (
        f".report.html.tmp-{dead}",
        f".notes.tmp-old-{dead}",
        f"checkpoints/.MANIFEST.json.tmp-{dead}",
        *kept[1:],
    ):
        (run / name).write_text("half")
    (run / f".model.tmp-old-{dead}/.README.md.tmp-{dead}").write_text("half")
    session(run).begin()
    assert sorted(path.name for path in run.rglob("*.tmp-*")) == sorted(kept)
    assert run.joinpath("model").is_dir()  # the one before, which was to be replaced
    assert not run.joinpath("notes").exists()


def test_the_same_seed_gives_the_same_bits_and_another_others(tmp_path: Path) -> None:
    """Invariant 15."""
    for method in ("full", "lora"):
        settings = (f"train.method={method}", "model.dropout=0.1", "train.max_steps=3")
        runs = [
            session(tmp_path / f"{method}-{k}", *settings, f"train.seed={seed}") for k, seed in enumerate((1, 1, 2))
        ]
        for trained in runs:
            trained.fit()
        assert_same(state(runs[0]), state(runs[1]))
        assert log(runs[0]) == log(runs[1])
        assert log(runs[0]) != log(runs[2])


def test_a_run_whose_order_changed_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update of heedful that finds other families in the same rows."""
    with pytest.raises(Crash):
        session(tmp_path / "run", "train.save_every=2", screen=crash_at(3)).fit()
    monkeypatch.setattr("heedful.encode.prepare.families", lambda examples: np.arange(len(examples)) // 2)
    with pytest.raises(RunError, match="its order changed since step-000002 was saved"):
        restore(session(tmp_path / "run", "train.save_every=2"))


def test_a_run_resumed_to_the_updates_that_it_made_gives_its_last_weights(tmp_path: Path) -> None:
    """It was broken off before its first validation, so none can be the best."""
    with pytest.raises(Crash):
        session(tmp_path / "run", "train.save_every=2", screen=crash_at(3)).fit()
    screen = Screen()
    shorter = session(tmp_path / "run", "train.save_every=2", "train.max_steps=2", screen=screen)
    restore(shorter)
    assert shorter.fit() == 0
    screen.said.clear()
    write_model(shorter)
    assert screen.said == ["Nothing was validated since the first update: the last weights become the model."]
    assert shorter.run.has_model


def test_a_run_is_not_resumed_to_fewer_updates_than_it_made(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        session(tmp_path / "run", "train.save_every=4", screen=crash_at(5)).fit()
    shorter = session(tmp_path / "run", "train.save_every=4", "train.max_steps=3")
    with pytest.raises(UsageError, match="made 4 updates already, more than 3"):
        restore(shorter)
