"""Two runs that were judged: their grades are compared where one judge gave both, wins over two bases never."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.evaluate.fake_judge import Judge, serving

import heedful
from heedful import pipeline
from heedful.cli import main
from heedful.evaluate.endpoint import Endpoint
from heedful.run import Run
from heedful.system.atomic import read_json, write_json


@pytest.fixture
def other(copy: Run, tmp_path: Path) -> Run:
    """A run of the same tuned answers, whose base answers worse."""
    shutil.copytree(copy.path, tmp_path / "other")
    found = Run(tmp_path / "other")
    rows = read_json(found.responses_file)
    write_json(found.responses_file, [row | {"base_response": "no"} for row in rows])
    return found


def graded(content: str) -> str:
    """Grade every answer 80, and prefer the one that is not "no"."""
    if "<<answer A" not in content:
        return "80"
    return "B" if ">>\nno\n<<end of answer A" in content else "A" if ">>\nno\n<<end of answer B" in content else "T"


def test_wins_over_two_bases_say_nothing_of_the_two_runs(copy: Run, other: Run, judge: Judge) -> None:
    judge.reply = graded
    for run in (copy, other):
        pipeline.evaluate(run, judge=Endpoint(judge.url, "grader"), judge_by="both")
    assert read_json(other.evaluation_file)["judge"]["models"]["tuned"]["judge_wins"]["value"] == 1
    found = heedful.compare(copy, other)
    assert found["judge"]["paired"].keys() == {"judge_score"}
    assert found["judge"]["paired"]["judge_score"]["verdict"] == "within noise; no row differs"
    assert all(scores.keys() == {"judge_score"} for scores in found["judge"]["models"].values())
    assert "note" not in found


def test_two_servers_of_one_models_name_are_two_judges(
    copy: Run, other: Run, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.reply = "80"
    pipeline.evaluate(copy, judge=Endpoint(f"{judge.url}?key=one", "grader"))
    pipeline.evaluate(other, judge=Endpoint(f"{judge.url}?key=two", "grader"))
    assert "judge" in heedful.compare(copy, other)  # another key is no other judge
    with serving() as second:
        second.reply = "20"
        pipeline.evaluate(other, judge=Endpoint(second.url, "grader"))
        found = heedful.compare(copy, other)
        assert "judge" not in found
        urls = [f"grader at {server.url}/chat/completions" for server in (judge, second)]
    assert found["note"] == f"Their judges differ, {urls[0]} and {urls[1]}: what they say is not compared."
    (page,) = other.path.glob("compare-*.html")
    assert found["note"] in page.read_text(encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["compare", str(copy.path), str(other.path)])
    assert found["note"] in " ".join(capsys.readouterr().out.split())
