"""What an evaluation refuses before its first answer: places it cannot write to, settings that it does not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful import pipeline
from heedful.config import load_config
from heedful.errors import RunError
from heedful.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """All of a run that is looked at before its rows are."""
    made = Run(tmp_path / "run")
    made.path.mkdir()
    made.write_config(load_config(None, {"data.path": "rows.json"}))
    return made


@pytest.fixture(autouse=True)
def no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may come so far as to read rows."""
    monkeypatch.setattr(pipeline, "rows_of", None)


def test_results_that_cannot_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.path / "evaluations").write_text("in the way")
    with pytest.raises(RunError, match=r"Results cannot be written to .*evaluations.*copy the run"):
        pipeline.evaluate(run, "other.json")
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != run.path)  # root may write anywhere
    with pytest.raises(RunError, match=f"Results cannot be written to {run.path}"):
        pipeline.evaluate(run)
