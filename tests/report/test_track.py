"""Trackers get what metrics.jsonl holds, each line once; TensorBoard is read back by its own reader."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heedful.config import Config
from heedful.errors import UsageError
from heedful.report.track import TRACKERS, Follower, check, tracking
from heedful.run import Run
from heedful.settings import load_config


def run_of(path: Path, steps: int) -> Run:
    run = Run(path)
    for step in range(1, steps + 1):
        run.log({"event": "step", "step": step, "epoch": step / 4, "loss": 1 / step})
    run.log({"event": "validation", "step": steps, "validation_loss": 0.5})
    run.log({"event": "sample", "step": steps, "prompt": "private", "answer": "text"})
    return run


def track(name: str) -> Config:
    return load_config(None, {"run.track": name})


class Remembers:
    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, float]]] = []

    def send(self, step: int, numbers: Mapping[str, float]) -> None:
        self.sent.append((step, dict(numbers)))

    def close(self) -> None:
        self.sent.append((-1, {}))


def test_each_whole_line_is_sent_once(tmp_path: Path) -> None:
    run, tracker = run_of(tmp_path, 2), Remembers()
    follower = Follower(run.metrics_file, tracker)
    follower.catch_up()
    follower.catch_up()
    assert [step for step, _ in tracker.sent] == [1, 2, 2]
    assert tracker.sent[0][1] == {"step/epoch": 0.25, "step/loss": 1.0}
    with open(run.metrics_file, "a", encoding="utf-8") as file:
        file.write('{"event": "step", "step": 3, ')
        file.flush()
        follower.catch_up()
        assert len(tracker.sent) == 3
        file.write('"loss": null}\n')
    follower.catch_up()
    assert tracker.sent[3:] == [(3, {})]


def test_texts_of_the_data_are_never_sent(tmp_path: Path) -> None:
    tracker = Remembers()
    Follower(run_of(tmp_path, 1).metrics_file, tracker).catch_up()
    assert "private" not in json.dumps(tracker.sent)


def test_tensorboard_reads_the_run_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tracker's test needs tensorboard (the dev extra)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_of(tmp_path, 4)
    for _ in range(2):  # the second attempt, as after --resume, takes the place of the first
        with tracking(run, track("tensorboard")) as send:
            send()
    read = EventAccumulator(str(run.path / "tensorboard"))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("step/loss")] == [
        (step, pytest.approx(1 / step)) for step in range(1, 5)
    ]
    assert [event.value for event in read.Scalars("validation/validation_loss")] == [0.5]


def test_nothing_is_sent_unless_named(tmp_path: Path) -> None:
    with tracking(run_of(tmp_path, 2), load_config()) as send:
        send()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.jsonl"]


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "mlflow", "wandb"])
def test_a_missing_package_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UsageError,
        match=rf"run.track={name} needs the package {name}, which is not installed. Run .+ -m pip install {name}",
    ):
        check(track(name))


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_clients_that_speak_alike(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the calls that both document: init(project, name, config), log(metrics, step), finish()."""
    calls: list[Any] = []
    client = ModuleType(name)
    client.init = lambda project, name, config: calls.append(("init", config))  # type: ignore[attr-defined]
    client.log = lambda metrics, step: calls.append(("log", step, metrics))  # type: ignore[attr-defined]
    client.finish = lambda: calls.append(("finish",))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, client)
    with tracking(run_of(tmp_path, 1), track(name)) as send:
        send()
    assert [call[0] for call in calls] == ["init", "log", "log", "finish"]
    assert calls[0][1]["train.epochs"] == 2 and "data.path" not in calls[0][1]
    assert not any(isinstance(value, str) for value in calls[0][1].values())
    assert calls[1] == ("log", 1, {"step/epoch": 0.25, "step/loss": 1.0})


def test_mlflow_gets_settings_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the calls of MLflow's fluent API."""
    calls: dict[str, Any] = {}
    client = ModuleType("mlflow")
    for call in ("set_experiment", "start_run", "log_params", "log_metrics", "end_run"):
        setattr(client, call, lambda *a, _call=call, **k: calls.update({_call: (a, k)}))
    monkeypatch.setitem(sys.modules, "mlflow", client)
    with tracking(run_of(tmp_path, 1), track("mlflow")):
        pass
    assert calls["log_metrics"] == (({"validation/validation_loss": 0.5},), {"step": 1})
    assert calls["log_params"][0][0]["train.epochs"] == 2
    assert "data.path" not in calls["log_params"][0][0]
    assert "end_run" in calls


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Down(Remembers):
        def send(self, step: int, numbers: Mapping[str, float]) -> None:
            raise ConnectionError("refused")

    Follower(run_of(tmp_path, 3).metrics_file, Down()).catch_up()
    assert capsys.readouterr().err.count("failed at step 1 (ConnectionError: refused)") == 1


def test_a_tracker_that_is_gone_at_the_end_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone(Remembers):
        def close(self) -> None:
            raise ConnectionError("reset")

    monkeypatch.setitem(TRACKERS, "mlflow", lambda run, config: Gone())
    with tracking(run_of(tmp_path, 1), track("mlflow")):
        pass
    assert "did not shut down cleanly (ConnectionError: reset)" in capsys.readouterr().err
