"""Results on rows other than those held back have a place of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.data.made_rows import questions
from tests.evaluate.fake_judge import Judge
from tests.evaluate.verbs import said

import heedful
from heedful import pipeline
from heedful.errors import UsageError
from heedful.evaluate.endpoint import Endpoint
from heedful.evaluate.held_back import evaluation_rows
from heedful.run import Run
from heedful.system.atomic import read_json


def test_results_on_other_rows_have_a_place_of_their_own(
    copy: Run, run: Run, tmp_path: Path, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of another format: what the run's own files, its report and its card tell stays as it is."""
    other = tmp_path / "other.jsonl"
    turns = [{"role": "user", "content": "Say red."}, {"role": "assistant", "content": "red"}]
    other.write_text(json.dumps({"messages": turns}) + "\n")
    copy.write_config(
        copy.config().model_copy(update={"data": copy.config().data.model_copy(update={"format": "alpaca"})})
    )
    names = ("evaluation.json", "responses.json", "scores.jsonl", "forgetting.jsonl", "report.html", "model/README.md")
    before = {name: (copy.path / name).read_bytes() for name in names}
    assert said(["evaluate", copy.path, "--data", other], capsys)[0] == 0
    judged = pipeline.evaluate(copy, str(other), judge=Endpoint(judge.url, "grader"))
    assert {name: (copy.path / name).read_bytes() for name in names} == before
    found = read_json(copy.results(str(other)).evaluation_file)
    assert found == judged and found["judge"]["rows"] == found["rows"] == 1
    assert found["of"] == {"data": str(other), "rows": "all", "settings": {}}
    with pytest.raises(UsageError, match=f"{run.path} was not evaluated on {other} yet. Run .* --data {other}"):
        heedful.compare(run, copy, data=str(other))
    shutil.copytree(copy.path / "evaluations", tmp_path / "again" / "evaluations")
    (tmp_path / "again" / "config.yaml").write_bytes(copy.config_file.read_bytes())
    assert said(["compare", copy.path, tmp_path / "again", "--data", other], capsys)[0] == 0
    page = Run(tmp_path / "again").results(str(other)).path / "compare-copy.html"
    assert "Answers side by side" in page.read_text(encoding="utf-8")


def test_other_rows_are_read_as_asked_now_even_if_the_run_was_asked_the_same(copy: Run, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("q,output\nSay red.,red\n")
    asked = {"data.columns": {"instruction": "q"}}
    copy.write_config(copy.config(asked))
    (row,) = evaluation_rows(copy, str(tmp_path / "other.csv"), asked)
    assert row.messages[0].content == "Say red."


def test_all_rows_of_another_file_are_taken_in_their_order(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.model.mkdir(parents=True)
    (run.model / "config.json").touch()
    found = evaluation_rows(run, questions(tmp_path / "other.json", 60).path)
    assert [row.place.row for row in found] == [*range(1, 61)]


def test_two_files_of_one_name_have_a_place_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has one, wherever it is named from; what is no file is told by its name."""
    run = Run(tmp_path / "run")
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    places = [run.results(data).path for data in ("a/test.jsonl", "b/test.jsonl", "org/test.jsonl", "test.jsonl")]
    assert len(set(places)) == 4 and all(place.name.startswith("test.jsonl-") for place in places)
    monkeypatch.chdir(tmp_path / "b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run.results("~/a/test.jsonl").path == places[0]
    near = [run.results(data).path for data in ("../a/test.jsonl", "test.jsonl", "org/test.jsonl")]
    assert near == places[:3]
