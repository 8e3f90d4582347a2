"""Rows longer than the model: trained on, sampled and evaluated as they were cut, none of which stops a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import heedful
from heedful import kernels
from heedful.errors import DataError
from heedful.evaluate.endpoint import Endpoint
from tests.conftest import make_rows
from tests.evaluate.fake_judge import serving
from tests.models import byte_tokenizer, tiny_model

POSITIONS = 128
CALL = [{"role": "assistant", "content": "look"}, {"role": "tool", "content": "seen"}]
LONG = "Give the last word of what follows. " + "and so on " * 30


def asked(question: str, answer: str, learned: bool) -> dict[str, Any]:
    reply = {"role": "assistant", "content": answer, "weight": int(learned)}
    return {"messages": [{"role": "user", "content": question}, reply]}


def test_a_run_of_rows_longer_than_the_model_ends_with_scores(tmp_path: Path) -> None:
    """Of six test rows three are cut; two cannot be scored: one weighs 0, one no cut makes fit."""
    tiny_model("gpt2", n_positions=POSITIONS).save_pretrained(tmp_path / "tiny")
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    rows = [asked(f"{LONG}{i}", row["output"], True) for i, row in enumerate(make_rows(39))]
    rows[35] = asked("Short.", "Yes.", True)
    rows[36] = asked("Short?", "What its user rejected.", False)
    rows[37]["messages"][1:1] = CALL * 60
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    settings = {"train.epochs": 1, "train.batch_size": 16, "generate.max_tokens": 4, "encode.template": "chatml"}
    settings |= {"data.split": "in_order", "data.validation_share": 0.0, "data.test_share": 0.13}
    run = heedful.train(tmp_path / "rows.json", model=str(tmp_path / "tiny"), out=tmp_path / "run", settings=settings)
    scores, answers = json.loads(run.evaluation_file.read_text()), json.loads(run.responses_file.read_text())
    assert (scores["rows"], scores["rows_cut"], len(answers)) == (4, 3, 4)
    assert [answer["messages"] for answer in answers] == [rows[i]["messages"] for i in (33, 34, 35, 38)]  # as they were
    place = f"{tmp_path / 'rows.json'}:1 (row {{}})"
    assert scores["left_out"] == {
        "too long to be cut to fit": [place.format(38)], "with a last answer of weight 0": [place.format(37)],
    }  # fmt: skip
    assert json.loads(run.receipt_file.read_text())["encoding"]["not_scored"] == scores["left_out"]
    assert any(event["event"] == "sample" for event in run.metrics())
    with serving() as judge:
        judged = heedful.evaluate(run, judge=Endpoint(judge.url, "grader"))
    assert judged["judge"]["models"]["tuned"]["judge_score"]["n"] == 4
    assert "model_response" in answers[0] and json.loads(run.responses_file.read_text()) == answers  # not asked again


def test_a_layout_that_the_model_forces_is_kept_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And memory is looked at again for it: a padded forward has logits at each of its places."""
    tiny_model("bloom").save_pretrained(tmp_path / "tiny")
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    (tmp_path / "rows.json").write_text(json.dumps(make_rows(40)), encoding="utf-8")
    looked, fit = [], heedful.train.session.fit_to_memory
    monkeypatch.setattr(
        "heedful.train.session.fit_to_memory",
        lambda config, *rest: looked.append(config.encode.layout) or fit(config, *rest),
    )
    settings = {"train.max_steps": 1, "evaluate.after_training": False, "encode.layout": "tree"}
    given = {"model": str(tmp_path / "tiny"), "out": tmp_path / "run"}
    run = heedful.train(tmp_path / "rows.json", settings=settings, **given)
    assert (run.config().encode.layout, looked) == ("padded", ["tree", "padded"])
    assert "the padded layout is used" in capsys.readouterr().err
    heedful.train(tmp_path / "rows.json", settings=settings | {"train.max_steps": 2}, resume=True, **given)
    assert run.updates_in_model() == 2 and "padded layout" not in capsys.readouterr().err
    told = run.provenance()
    assert told["processor"] and told["memory"] > 2**28 and told["gpus"] == [] and told["vector_instructions"]
    assert told["compiled_kernels"] is (kernels.compiled() is not None)


def test_a_model_without_a_context_length_is_asked_rows_that_are_too_long_to_train_on(tmp_path: Path) -> None:
    """Before the training this is found out as after it."""
    tiny_model("bloom").save_pretrained(tmp_path / "tiny")
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    rows = [asked(f"Question {i}", "Answer.", True) for i in range(20)]
    rows[18]["messages"][1:1] = CALL * 60
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    settings = {"train.max_steps": 1, "generate.max_tokens": 4, "data.split": "in_order", "data.validation_share": 0.0}
    settings |= {"encode.template": "chatml"}
    run = heedful.train(tmp_path / "rows.json", model=str(tmp_path / "tiny"), out=tmp_path / "run", settings=settings)
    encoding, scores = (json.loads(file.read_text()) for file in (run.receipt_file, run.evaluation_file))
    assert (encoding["encoding"]["limit"], encoding["encoding"]["not_scored"]) == (1024, scores["left_out"])
    assert scores["rows"] == 2


def test_a_row_to_answer_that_is_too_long_to_learn_stops_no_training(tmp_path: Path, tiny_folder: Path) -> None:
    """Without validation rows it is the sample."""
    rows = [asked("and so on " * 30 if i == 18 else f"Question {i}", "Answer.", True) for i in range(20)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    settings = {"train.max_steps": 1, "data.split": "in_order", "data.validation_share": 0.0, "generate.max_tokens": 4}
    settings |= {"encode.max_tokens": 200, "encode.long_rows": "error"}
    run = heedful.train(tmp_path / "rows.json", model=str(tiny_folder), out=tmp_path / "run", settings=settings)
    assert any(event["event"] == "sample" for event in run.metrics()) and run.is_scored


def test_a_run_none_of_whose_test_rows_can_be_scored_ends_without_scores(tmp_path: Path, tiny_folder: Path) -> None:
    rows = [asked(f"Question {i}", "Answer.", i < 18) for i in range(20)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    settings = {"train.max_steps": 1, "data.split": "in_order", "data.validation_share": 0.0}
    run = heedful.train(tmp_path / "rows.json", model=str(tiny_folder), out=tmp_path / "run", settings=settings)
    assert run.report_file.is_file() and not run.evaluation_file.exists()
    with pytest.raises(DataError, match=r"None of the rows can be scored: 2 with a last answer of weight 0 \(the fir"):
        heedful.evaluate(run)
