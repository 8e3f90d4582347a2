"""A judge scores the answers that a run has stored; what it scored is kept when it goes down."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from pathlib import Path

import pytest
from tests.evaluate.fake_judge import KEY, Judge
from tests.evaluate.verbs import said

from heedful import pipeline
from heedful.evaluate.endpoint import Endpoint
from heedful.run import Run
from heedful.system.atomic import read_json, write_json


def test_a_judge_scores_what_is_stored(copy: Run, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "score_both", None)  # nothing is answered again
    before = read_json(copy.evaluation_file)
    judge.reply = lambda content: "80" if "answer " in content and "<<answer A" not in content else "T"
    found = pipeline.evaluate(copy, judge=Endpoint(judge.url, "grader"), judge_by="both")
    assert found == read_json(copy.evaluation_file)
    assert {name: part for name, part in found.items() if name != "judge"} == before
    part = found["judge"]
    assert part["models"]["tuned"]["judge_score"]["value"] == 80
    assert part["models"]["tuned"]["judge_wins"]["value"] == 0.5
    assert (part["model"], part["asked"], part["unscored"]) == ("grader", 4 * found["rows"], 0)
    assert part["tokens"] == {"prompt": 400 * found["rows"], "completion": 8 * found["rows"]}


def test_a_judge_that_is_down_is_named_and_what_it_scored_is_kept(
    copy: Run, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", copy.path, "--judge", judge.url, "--judge-model", "grader"]
    judge.always = (403, "no")
    code, told = said(arguments, capsys)
    assert code == 1 and judge.url in told and "403" in told
    assert "kept" not in told  # nothing is
    judge.always, judge.faults = None, ["11/10"]
    assert said(arguments, capsys)[0] == 0
    part = read_json(copy.evaluation_file)["judge"]
    assert (part["unscored"], part["asked"]) == (1, 2 * part["rows"])
    assert part["unscored_examples"][0]["reply"] == "11/10"


@pytest.mark.parametrize("by", ["grade", "pairs", "both"])
@pytest.mark.parametrize(
    ("fault", "reply", "told"),
    [
        ((400, '{"error": "Write \'max_tokens\'."}'), None, "gives no replies: it answers 400 Bad Request: Write 'max"),
        (None, "11/10", "scores nothing: 12 of 12 replies could not be scored (the first: '11/10'). Name another"),
    ],
)
def test_another_judge_that_is_of_no_use_takes_no_scores_away(
    fault: object, reply: str | None, told: str, by: str, copy: Run, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    responses = read_json(copy.responses_file)
    write_json(copy.responses_file, [row | {"base_response": "x", "model_response": "y"} for row in responses])
    arguments = ["evaluate", copy.path, "--judge", judge.url, "--judge-by", by, "--judge-model"]
    judge.reply = lambda content: "80" if "answer " in content and "<<answer A" not in content else "T"
    assert said([*arguments, "grader"], capsys)[0] == 0
    before = copy.evaluation_file.read_bytes(), copy.scores_file.read_bytes()
    judge.always, judge.reply = fault, reply
    code, said_now = said([*arguments, "other"], capsys)
    assert code == 1 and told.replace("12", "24" if by == "both" else "12") in " ".join(said_now.split())
    assert "kept" not in said_now and ".." not in said_now  # the other one's replies are no part of this judging
    assert (copy.evaluation_file.read_bytes(), copy.scores_file.read_bytes()) == before


def test_half_a_character_from_the_judge_does_not_end_the_judging(
    copy: Run, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", copy.path, "--judge", judge.url, "--judge-model", "grader"]
    judge.faults = ["70", "good \ud83d", (400, r'{"error": "no \ud83d here"}')]
    assert said(arguments, capsys)[0] == 0
    told = {
        entry.get("reply") or entry["reason"] for entry in read_json(copy.evaluation_file)["judge"]["unscored_examples"]
    }
    assert told == {"good ?", "it answers 400 Bad Request: no ? here"}


def test_an_interrupted_judging_waits_for_no_reply_and_tells_what_is_kept(
    copy: Run, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    released, waited, asked = threading.Event(), [], itertools.count()

    def reply(content: str) -> str:
        """Reply to the first question alone; once that is kept, press Ctrl-C."""
        number = next(asked)
        if number == 1:
            while not (copy.judge_file.exists() and copy.judge_file.stat().st_size):
                released.wait(0.01)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if number and not released.wait(20):
            waited.append(number)
        return "70"

    judge.reply = reply
    code, told = said(["evaluate", copy.path, "--judge", judge.url, "--judge-model", "grader"], capsys)
    assert code == 130 and waited == []
    assert told.endswith(
        f"1 reply is kept in {copy.judge_file}; the same command asks for the rest.\nheedful: Interrupted.\n"
    )
    released.set()


def test_a_key_in_the_judges_address_is_neither_stored_nor_told(
    copy: Run, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", copy.path, "--judge", f"{judge.url}?key={KEY}", "--judge-model", "grader"]
    judge.always = (404, f"no POST /v1/chat/completions?key={KEY}")
    code, told = said(arguments, capsys)
    assert code == 1 and KEY not in told and f"{judge.url}/chat/completions?..." in told and "?***" in told
    judge.always, judge.faults = None, ["70", (400, f"not at ?key={KEY}")]
    assert said(arguments, capsys)[0] == 0
    part = read_json(copy.evaluation_file)["judge"]
    assert part["url"].endswith("?...") and "?***" in part["unscored_examples"][0]["reason"]
    assert not [file for file in copy.path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def test_answers_to_rows_of_other_columns_are_judged_as_stored_and_kept_when_the_judge_is_down(
    copy: Run, tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"q": "Say red.", "a": "red"}]))
    arguments = ["evaluate", copy.path, "--data", other, "--columns", "instruction=q,output=a"]
    arguments += ["--judge", judge.url, "--judge-model", "grader"]
    code, told = said(arguments, capsys)
    assert code == 0 and "Answering the rows with the tuned model" in told and "1 rows" not in told
    results = copy.results(str(other))
    before = read_json(results.evaluation_file)
    assert before["judge"]["rows"] == 1
    monkeypatch.setattr(pipeline, "score_both", None)  # nothing is answered again
    assert said(arguments, capsys)[0] == 0
    results.judge_file.unlink()
    judge.always = (403, "no")
    assert said(arguments, capsys)[0] == 1
    assert read_json(results.evaluation_file) == before
