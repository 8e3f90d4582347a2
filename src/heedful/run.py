"""The run directory: the API between the stages. Where its files lie, and how they are written.

Files that stages leave are whole or absent: written beside their place, synced, then renamed. `metrics.jsonl` and
`row-losses.bin` grow, and a resume cuts them back to the checkpoint that it continues from; `judge.jsonl` grows, and
its reader drops a half line; `feedback.sqlite` keeps itself whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.address import redacted
from heedful.clean import check_unicode
from heedful.config import Config
from heedful.errors import DataError, Diverged, RunError, UsageError, resuming
from heedful.settings import Settings, dump_config, load_config, override
from heedful.system.atomic import atomic_write, read_json, sha256, sync
from heedful.system.lock import LOCK, holder

EVALUATIONS = "evaluations"  # of a run: its results on other rows than those held back
EXPORT_RECEIPT = "export_receipt.json"  # of an exported folder
KINDS = {  # of what provenance.json tells and is read again
    "model": str, "data": str, "folder": str, "fingerprint": dict, "asked": dict, "packages": dict, "command": list,
    "resumed": list, "gpus": list, "updates": int, "peak_memory": int, "cpus": int, "platform": str,
}  # fmt: skip
MOVED = "If the data has another name or place now, give it with --set data.path=FILE."


class _Inside:
    """A file or a folder by its name in the folder that it is asked of: `run.model` is `run.path / "model"`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: Results, owner: type[Results]) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class Results:
    """The folder of one evaluation by its path."""

    path: Path

    evaluation_file = _Inside("evaluation.json")
    responses_file = _Inside("responses.json")
    scores_file = _Inside("scores.jsonl")
    probes_file = _Inside("forgetting.jsonl")
    judge_file = _Inside("judge.jsonl")


@dataclass(frozen=True)
class Run(Results):
    """A run directory by its path; holds no state of its own. The results in it are those on the rows held back."""

    config_file = _Inside("config.yaml")
    receipt_file = _Inside("receipt.json")
    provenance_file = _Inside("provenance.json")
    budget_file = _Inside("budget.json")
    metrics_file = _Inside("metrics.jsonl")
    row_losses_file = _Inside("row-losses.bin")
    data_map_file = _Inside("data-map.json")
    checkpoints = _Inside("checkpoints")
    model = _Inside("model")
    adapter = _Inside("adapter")
    exports = _Inside("export")
    feedback_file = _Inside("feedback.sqlite")
    report_file = _Inside("report.html")
    loss_plot = _Inside("loss-plot.pdf")

    def results(self, data: str | None) -> Results:
        """Tell where the results on all rows of `data` lie; without any, those on the rows held back."""
        if data is None:
            return self
        local = os.path.expanduser(data)  # two files of one name are told apart by where they lie
        whole = os.path.realpath(local) if os.path.exists(local) else data
        place = hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]
        return Results(self.path / EVALUATIONS / f"{slug(Path(redacted(data)).name)}-{place}")

    @property
    def has_model(self) -> bool:
        """Say whether training came to a model."""
        return (self.model / "config.json").is_file()

    @property
    def diverged(self) -> bool:
        """Say whether training ended without a model because it diverged."""
        return not self.has_model and "diverged" in self.provenance()

    def check_model(self) -> None:
        """Raise RunError for a run that holds no model, with what to do about it."""
        if self.has_model:
            return
        if process := holder(self.path):
            raise RunError(f"{self.path} holds no model yet: {process} trains it.", "Wait for its end.")
        if self.diverged:
            raise Diverged(f"{self.path} holds no model: its training diverged.")
        fix = f"Continue it with {resuming(self.path)}."
        raise RunError(f"{self.path} holds no model: its training never finished.", fix)

    @property
    def is_scored(self) -> bool:
        """Say whether the run was ever scored, an earlier model of it included: what decides is chosen before."""
        known = self.evaluation_file.exists() or any(self.path.glob(f"{EVALUATIONS}/*/evaluation.json"))
        return known or "scored" in self.provenance()

    def config(self, settings: Settings = ()) -> Config:
        """Read the settings, with those asked for now over them; names in them are as they were typed."""
        return load_config(self.config_file, settings)

    def located(self, config: Config) -> Config:
        """Return the run's settings with the names of its data and its model as they read from here."""
        path, name = self.from_here(config.data.path), self.from_here(config.model.name)
        return override(config, {"data.path": path, "model.name": name})

    def from_here(self, name: str) -> str:
        """Return a name as it reads from here: as a path from where the run was trained, if that still leads on."""
        start = self.provenance().get("folder")
        there = os.path.join(start or "", name)
        is_path = not is_shipped(name) and os.path.exists(there)
        return there if is_path and start not in (None, os.getcwd()) else name

    def began_with(self, data: str) -> bool:
        """Say whether a file has the bytes that the run was trained on, whatever its name and place."""
        path = Path(os.path.expanduser(data))
        return not is_shipped(data) and path.is_file() and sha256(path) == self.provenance().get("data")

    def provenance(self, *needed: str) -> dict[str, Any]:
        """Read what the run came from; nothing until that is written. RunError where it lacks what is needed of it."""
        told = read_json(self.provenance_file) if needed or self.provenance_file.exists() else {}
        if not isinstance(told, dict):
            raise RunError(f"{self.provenance_file} does not hold what a run came from.", "Restore it.")
        if wrong := [name for name, kind in KINDS.items() if not isinstance(told.get(name, kind()), kind)]:
            raise RunError(f"{self.provenance_file} tells the run's {wrong[0]} in another form.", "Restore it.")
        if missing := [name for name in needed if not told.get(name)]:
            raise RunError(f"{self.provenance_file} does not tell the run's {' and '.join(missing)}.", "Restore it.")
        return told

    @property
    def identity(self) -> str:
        """Return what tells this run from others, wherever its folder lies; of a run that has no id, its place."""
        place = hashlib.sha256(os.fsencode(os.path.realpath(self.path))).hexdigest()[:16]
        with suppress(RunError):
            return str(self.provenance().get("id", place))
        return place

    def write_config(self, config: Config) -> None:
        atomic_write(self.config_file, dump_config(config))

    def metrics(self) -> list[dict[str, Any]]:
        """Read every whole line of metrics.jsonl."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8").split("\n")
        try:
            return [json.loads(line) for line in lines[:-1]]
        except ValueError as error:
            raise RunError(f"{self.metrics_file} holds a line that is not JSON: {error}.", "Remove it.") from error

    def updates_in_model(self) -> int | None:
        """Tell after how many updates the run's model was written, if there is one."""
        return self.provenance().get("updates") if self.has_model else None

    def log(self, event: Mapping[str, Any]) -> None:
        """Append one event to metrics.jsonl; a number that is not finite is null, as JSON has no other word for it."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}
        with open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite, ensure_ascii=False) + "\n")

    def sync_metrics(self) -> int:
        """Push metrics.jsonl to the disk and give its length, for a checkpoint to remember."""
        with open(self.metrics_file, "ab") as file:
            sync(file)
            return file.tell()

    def cut_metrics(self, size: int) -> None:
        """Cut metrics.jsonl back to `size` bytes: what was logged after a checkpoint will be logged again."""
        self.metrics_file.touch()
        os.truncate(self.metrics_file, min(size, self.metrics_file.stat().st_size))  # truncate would fill up with NUL


@contextmanager
def advising_if_moved() -> Iterator[None]:
    """Where the data that a run began with cannot be read, say how to give its new name or place."""
    try:
        yield
    except DataError as error:
        raise DataError(error.problem, f"{error.fix} {MOVED}".strip()) from error


def is_shipped(data: str) -> bool:
    """Say whether a name means rows that ship with heedful, even where a file has that name."""
    return data.partition(":")[0] == "builtin"


def slug(text: str) -> str:
    """Return a text as the name of a file."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "run"


def holds_run(run: Run | Path | str) -> bool:
    """Say whether a folder is a run's; a model's may have a config.yaml too."""
    found = run_at(run)
    return os.path.isfile(found.config_file) and not os.path.isfile(found.path / "config.json")


def open_run(run: Run | Path | str) -> Run:
    """Open a run that exists, or say that it does not."""
    found = run_at(run)
    if not holds_run(found):
        why = "it is a model's folder" if os.path.isfile(found.path / "config.json") else "it has no config.yaml"
        raise UsageError(f"{found.path} is not a run: {why}.", "Give the folder that `heedful train` printed.")
    return found


def run_at(run: Run | Path | str) -> Run:
    """Return the run of a folder, which need not exist; raise UsageError for a name that is not text."""
    if not isinstance(run, (Run, Path, str)):
        raise UsageError(f"A run or a model must be a name or a path, not of type {type(run).__name__}.")
    found = run if isinstance(run, Run) else Run(Path(os.path.expanduser(run)))
    check_unicode("The name", found.path)
    with suppress(FileNotFoundError):  # it may be gone
        check_unicode("The current folder", os.getcwd())  # a run writes it down, and libraries name it
    return found


def answer_config(run_or_model: Run | Path | str, settings: Settings) -> Config:
    """Return the settings for answers: a run's own, or the defaults, with those asked for now over them."""
    return open_run(run_or_model).config(settings) if holds_run(run_or_model) else load_config(None, settings)


def check_writable(folder: Path) -> None:
    """Raise a RunError unless a folder, or the nearest one above it that exists, can be written to."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise RunError(
            f"Results cannot be written to {folder}.",
            "Get write permission there, or copy the run to where you have it.",
        )


def make_directory(run: Run) -> None:
    """Create the run's directory, or say why it cannot be."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=run.path).close()
    except OSError as error:
        raise UsageError(
            f"Cannot write to {run.path}: {error.strerror}.", "Choose another folder with --out."
        ) from error


def leave_directory(run: Run) -> None:
    """Remove the run's directory if nothing was written to it."""
    (run.path / LOCK).unlink(missing_ok=True)
    for folder in (run.checkpoints, run.path):
        with suppress(OSError):  # it is not there, or holds something
            folder.rmdir()
