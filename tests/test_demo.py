"""The end of the story, for data of any format and for none held back."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.commands import demo
from heedful.commands.demo import show_scores
from heedful.report.facts import Facts
from heedful.system.atomic import read_json, write_json
from tests.report.runs import finished_run


def test_rows_of_another_format_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run(tmp_path / "mine")
    turns = [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "It is A."}]
    row = {"messages": turns, "place": "x:1", "base_response": "Bee", "model_response": "Ay."}
    write_json(run.responses_file, [row])
    receipt = read_json(run.receipt_file)
    of = {"format": "messages", "columns": {"messages": "messages"}}
    write_json(run.receipt_file, receipt | {"data": receipt["data"] | of})
    show_scores(Facts(run))
    told = capsys.readouterr().out
    assert all(text in told for text in ("Say A.", "It is A.", "Bee", "Ay.", "ROUGE-L"))


def test_a_run_without_held_back_rows_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run(tmp_path / "mine")
    run.responses_file.unlink()
    show_scores(Facts(run))
    assert "no rows were held back" in capsys.readouterr().out


def test_a_machine_that_is_too_slow_for_the_story_gets_more_time(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TRAINING_SECONDS", 0.001)
    settings = {"model.name": str(tiny_folder), "evaluate.after_training": False, "generate.max_tokens": 4}
    run = demo.tell(tmp_path / "run", settings | {"data.test_share": 0, "data.validation_share": 0.01})
    told = capsys.readouterr()
    assert run.has_model and "Yours now" in told.out
    assert "The budget of 0 s is too short" in told.err and "So the demo takes longer." in told.err
