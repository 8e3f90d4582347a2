"""What the files of a run tell, as the lines of a page. What a file does not hold is left out, never guessed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from heedful.address import redacted
from heedful.config import Config
from heedful.errors import RunError
from heedful.evaluate.rows import RowScores, read_rows
from heedful.report.screen import say
from heedful.run import Results, Run, holds_run
from heedful.settings import override
from heedful.system.atomic import read_json


@dataclass(frozen=True)
class Facts:
    """A run by its files, each read when it is asked for; nothing where it is not there (yet).

    Its results are those on the rows that were held back, or on all rows of `data`.
    """

    run: Run
    on: str | None = None  # other data than the rows held back

    @property
    def results(self) -> Results:
        return self.run.results(self.on)

    @cached_property
    def config(self) -> Config:
        """The settings, as they may be shown."""
        config = self.run.config()
        return override(config, {"data.path": redacted(config.data.path)})

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return self.run.metrics()

    @cached_property
    def receipt(self) -> Any:
        return _read(self.run.receipt_file)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        told: dict[str, Any] = _undamaged(self.run.provenance, {})
        return told

    @cached_property
    def evaluation(self) -> Any:
        return _read(self.results.evaluation_file)

    @cached_property
    def responses(self) -> Any:
        return _read(self.results.responses_file)

    @cached_property
    def scores(self) -> dict[str, RowScores]:
        """Each row's scores, under its place."""
        file = self.results.scores_file
        try:
            return {row.place: row for row in read_rows(file)} if file.exists() else {}
        except RunError as error:
            _leave_out(error.problem)
            return {}

    @cached_property
    def data_map(self) -> Any:
        return _read(self.run.data_map_file)

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def rows_learned(self) -> int:
        """Count the training rows that updates have learned from: not all where a budget was short, or some skipped."""
        steps, rows = self.events_of("step"), int(self.receipt["encoding"]["rows"])
        if not steps:
            return 0
        last = steps[-1]
        met: int = min(last["step"] * self.config.train.batch_size, rows * math.ceil(last["epoch"]))
        skipped = sum(len(event["rows"]) for event in self.events_of("skipped") if event["step"] <= last["step"])
        return min(met - skipped, rows)

    @property
    def none_to_score(self) -> str:
        """Say why no test row can be scored, or nothing where one can be, or the receipt is not there."""
        if not self.receipt:
            return ""
        if not (held := self.receipt["data"]["sizes"]["test"]):
            return "No test row was held back"
        left_out = sum(map(len, self.receipt["encoding"].get("not_scored", {}).values()))
        return "" if left_out < held else "No test row can be scored"

    @property
    def names(self) -> tuple[str, str]:
        """Name the model and the data without their folders; a run's model folder by the run."""
        typed_in = self.provenance.get("folder", "")
        model, data = (
            Path(os.path.abspath(os.path.join(typed_in, os.path.expanduser(name))))
            for name in (self.config.model.name, self.config.data.path)
        )
        if model == Run(model.parent).model and holds_run(model.parent):
            model = model.parent
        return model.name or "model", data.name

    @property
    def format(self) -> str:
        """Name the format of the answered rows: the run's; of other data it was not kept, and is detected again."""
        return str(self.receipt["data"]["format"]) if self.receipt and self.on is None else "auto"

    @property
    def columns(self) -> dict[str, str]:
        return dict(self.receipt["data"]["columns"]) if self.receipt else {}


def _read(path: Path) -> Any:
    """Read what a stage left; None where it left nothing."""
    return _undamaged(lambda: read_json(path), None) if path.exists() else None


def _undamaged(read: Callable[[], Any], otherwise: Any) -> Any:
    """Read; what is damaged is left out as what is missing is, and that is said."""
    try:
        return read()
    except RunError as error:
        _leave_out(error.problem)
        return otherwise


@cache
def _leave_out(problem: str) -> None:
    """Say it once: a page that follows its run is written often."""
    say(f"{problem} It is left out.")
