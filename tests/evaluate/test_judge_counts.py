"""On how many rows a judge's figures rest, and how many pairs it decided by nothing but their order."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evaluate.fake_judge import Judge, marked

from heedful import pipeline
from heedful.evaluate.endpoint import Endpoint
from heedful.evaluate.judge import Judged, Replies, choose
from heedful.report import screen, tables
from heedful.report.console import Screen
from heedful.report.page import report
from heedful.run import Run
from heedful.system.atomic import read_json, write_json


@pytest.fixture
def answered(copy: Run) -> Run:
    """A run whose answers are "base 0", "tuned 0" and so on, but alike to the last row."""
    rows = read_json(copy.responses_file)
    told = [row | {"base_response": f"base {i}", "model_response": f"tuned {i}"} for i, row in enumerate(rows)]
    write_json(copy.responses_file, [*told[:-1], told[-1] | {"base_response": "alike", "model_response": "alike"}])
    return copy


def graded(content: str) -> str:
    """Grade all but two answers of the base and one of the tuned model."""
    return "no idea" if marked(content)["answer"] in ("base 0", "base 1", "tuned 2") else "80"


def test_what_a_grade_rests_on_is_told(
    answered: Run, judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.reply = graded
    found = pipeline.evaluate(answered, judge=Endpoint(judge.url, "grader"))
    rows, part = found["rows"], found["judge"]
    assert part["rows"] == rows == 6
    assert [part["models"][model]["judge_score"]["n"] for model in ("base", "tuned")] == [4, 5]
    assert part["paired"]["judge_score"]["n"] == 3
    monkeypatch.setattr(screen, "out", Screen(width=80))
    tables.show_evaluation(found)
    told = capsys.readouterr().out
    assert "Judged by grader on 6 rows" in told
    assert "Judge's grade: base on 4 rows, tuned on 5 rows, tuned - base on 3 rows." in told
    html = report(answered)
    assert "A model was asked about the answers to 6 rows." in html
    assert html.count(", n = 4</span>") == html.count(", n = 5</span>") == html.count(", n = 3</span>") == 1


def test_rows_of_which_no_reply_can_be_read_were_asked_about_too(answered: Run, judge: Judge) -> None:
    judge.reply = lambda content: "no idea" if "tuned 0" not in content else "80"
    assert pipeline.evaluate(answered, judge=Endpoint(judge.url, "grader"))["judge"]["rows"] == 6


def test_pairs_that_the_order_decides_are_no_silent_tie(
    answered: Run, judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=80))
    judge.reply = "A"
    tables.show_evaluation(pipeline.evaluate(answered, judge=Endpoint(judge.url, "grader"), judge_by="pairs"))
    told = capsys.readouterr().out
    assert "5 of 5 pairs decided by the order alone: a half for each side." in told
    assert "1 row with equal answers: a half for each side, without a question." in told
    judge.reply = lambda content: "no idea" if "tuned 0" in content else "A"
    tables.show_evaluation(pipeline.evaluate(answered, judge=Endpoint(judge.url, "mute"), judge_by="pairs"))
    assert "4 of 4 pairs decided by the order alone" in capsys.readouterr().out
    judge.reply = "T"
    tables.show_evaluation(pipeline.evaluate(answered, judge=Endpoint(judge.url, "fair"), judge_by="pairs"))
    assert "order" not in capsys.readouterr().out


@pytest.mark.parametrize("alike", [1, 3])
def test_equal_answers_are_a_tie_that_nobody_is_asked_about(alike: int, judge: Judge, tmp_path: Path) -> None:
    judge.reply = "A"
    rows = [Judged(f"row {i}", "Q?", f"R{i}", {"base": "x", "tuned": "x" if i < alike else "y"}) for i in range(3)]
    said = choose(rows, "base", "tuned", Replies(Endpoint(judge.url, "grader"), tmp_path / "judge.jsonl"))
    assert said.scores == {"base": [0.5] * 3, "tuned": [0.5] * 3}
    assert (said.asked, said.decided_by_order, len(judge.seen)) == (2 * (3 - alike), 3 - alike, 2 * (3 - alike))
    assert said.prompt_tokens == 100 * len(judge.seen)


def test_a_run_whose_answers_are_all_alike_is_judged(answered: Run, judge: Judge) -> None:
    write_json(
        answered.responses_file,
        [row | {"base_response": "x", "model_response": "x"} for row in read_json(answered.responses_file)],
    )
    part = pipeline.evaluate(answered, judge=Endpoint(judge.url, "grader"), judge_by="pairs")["judge"]
    assert (part["asked"], part["pairs_read"], part["equal_answers"], judge.seen) == (0, 0, 6, [])
    assert part["models"]["tuned"]["judge_wins"]["value"] == 0.5
