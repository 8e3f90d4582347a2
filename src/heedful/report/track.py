"""Follows metrics.jsonl into a tracker that the user named: its numbers, through the tracker's own client, and no text.

The settings that are numbers go along, under the name of the run's folder; paths and other texts do not.

Nothing is sent unless `run.track` names where. What is shown is the file, from its first line on: a run that is resumed
is sent anew, as its file was cut back to where it resumed.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from heedful.config import Config
from heedful.errors import RunError, UsageError, install
from heedful.report import screen
from heedful.run import Run
from heedful.settings import leaves

EVENTS = ("step", "validation")


class Tracker(Protocol):
    """Where numbers go: `send` takes those of one step."""

    def send(self, step: int, numbers: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files below the run's folder, in `tensorboard/`."""

    def __init__(self, run: Run, config: Config) -> None:
        _package("tensorboard")
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.event, self.summary = Event, Summary
        self.writer = EventFileWriter(str(run.path / "tensorboard"))
        self._add(0, session_log=SessionLog(status=SessionLog.START))  # what an earlier attempt wrote counts no more

    def send(self, step: int, numbers: Mapping[str, float]) -> None:
        values = [self.summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._add(step, summary=self.summary(value=values))

    def close(self) -> None:
        self.writer.close()

    def _add(self, step: int, **content: Any) -> None:
        self.writer.add_event(self.event(wall_time=time.time(), step=step, **content))


class Logged:
    """trackio and wandb, which speak alike."""

    def __init__(self, package: str, run: Run, config: Config) -> None:
        self.client = _package(package)
        self.client.init(project="heedful", name=run.path.name, config=settings_of(config))

    def send(self, step: int, numbers: Mapping[str, float]) -> None:
        self.client.log(dict(numbers), step=step)

    def close(self) -> None:
        self.client.finish()


class MLflow:
    """A run of the experiment `heedful`, where MLflow's own settings say."""

    def __init__(self, run: Run, config: Config) -> None:
        self.client = _package("mlflow")
        self.client.set_experiment("heedful")
        self.client.start_run(run_name=run.path.name)
        self.client.log_params(settings_of(config))

    def send(self, step: int, numbers: Mapping[str, float]) -> None:
        self.client.log_metrics(dict(numbers), step=step)

    def close(self) -> None:
        self.client.end_run()


TRACKERS: dict[str, Callable[[Run, Config], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": lambda run, config: Logged("trackio", run, config),
    "wandb": lambda run, config: Logged("wandb", run, config),
    "mlflow": MLflow,
}


def settings_of(config: Config) -> dict[str, float]:
    """Return the settings that are numbers."""
    return {leaf: value for leaf, value in leaves(config).items() if isinstance(value, int | float)}


def check(config: Config) -> None:
    """Say before the training if the tracker that was named is not there."""
    if config.run.track is not None:
        _package(config.run.track)


@contextmanager
def tracking(run: Run, config: Config) -> Iterator[Callable[[], None]]:
    """Return a function that sends what is new in metrics.jsonl; the last lines are sent at the end."""
    if config.run.track is None:
        yield lambda: None
        return
    try:
        tracker = TRACKERS[config.run.track](run, config)
    except UsageError:
        raise
    except Exception as error:
        problem = f"The tracker {config.run.track} did not start: {type(error).__name__}: {error}."
        raise RunError(problem, "Set it up as its own manual says, or leave run.track out.") from error
    follow = Follower(run.metrics_file, tracker)
    try:
        yield follow.catch_up
        follow.catch_up()
    finally:
        follow.close()


class Follower:
    """Reads the whole lines of a growing file, each once, in order. One that fails is left out: the run goes on."""

    def __init__(self, path: Path, tracker: Tracker) -> None:
        self.path, self.tracker, self.read, self.failed = path, tracker, 0, False

    def catch_up(self) -> None:
        if self.failed or not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.read += len(line)
                self._send(json.loads(line))
                if self.failed:
                    return

    def close(self) -> None:
        try:
            self.tracker.close()
        except Exception as error:
            screen.say(
                f"The tracker did not shut down cleanly ({type(error).__name__}: {error}); the run is not affected."
            )

    def _send(self, event: Mapping[str, Any]) -> None:
        if event["event"] not in EVENTS:
            return
        numbers = {
            f"{event['event']}/{name}": float(value)
            for name, value in event.items()
            if isinstance(value, int | float) and name != "step"
        }
        try:
            self.tracker.send(event["step"], numbers)
        except Exception as error:
            self.failed = True
            why = f"{type(error).__name__}: {error}"
            screen.say(f"The tracker failed at step {event['step']} ({why}) and is left out from here on.")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(
            f"run.track={name} needs the package {name}, which is not installed.",
            install(name),
        ) from None
