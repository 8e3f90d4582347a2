"""What an evaluation refuses before its first answer: places closed to it, settings that it does not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful import pipeline
from heedful.cli import main
from heedful.errors import RunError, UsageError
from heedful.evaluate.held_back import describe_rows, evaluation_config
from heedful.run import Run
from heedful.settings import load_config


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
    monkeypatch.setattr(pipeline, "evaluation_rows", None)


def test_results_that_cannot_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.path / "evaluations").write_text("in the way")
    with pytest.raises(RunError, match=r"Results cannot be written to .*evaluations.*copy the run"):
        pipeline.evaluate(run, "other.json")
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != run.path)  # root may write anywhere
    with pytest.raises(RunError, match=f"Results cannot be written to {run.path}"):
        pipeline.evaluate(run)


@pytest.mark.parametrize(
    ("setting", "data"),
    [("train.epochs=5", None), ("evaluate.after_training=false", None), ("model.name=gpt2", "other.json"),
     ("data.test_share=0.5", "other.json"), ("data.path=x.json", "other.json")],
)  # fmt: skip
def test_settings_that_are_not_read(
    setting: str, data: str | None, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    told = f"An evaluation does not read {setting.partition('=')[0]}. It reads generate"
    with pytest.raises(UsageError, match=told):
        pipeline.evaluate(run, data, settings=[setting])
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(run.path), "--set", setting, *(["--data", data] if data else [])])
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_settings_that_are_read(run: Run) -> None:
    asked = {"generate.batch_size": 3, "evaluate.decides": "nll", "data.format": "dolly"}
    config = evaluation_config(run, asked, "other.json")
    assert config.data.format == "dolly"
    assert describe_rows(run, config, "other.json")["settings"] == {"generate.batch_size": 3}
