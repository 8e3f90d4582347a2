"""A run is evaluated whole, once, with the model that it names; one sentence for each thing that cannot be."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from tests.evaluate.verbs import QUICK, said
from transformers import PreTrainedModel

import heedful
from heedful import pipeline, training
from heedful.begin import configure, resolve_run
from heedful.errors import DataError, Interrupted, ModelError, UsageError
from heedful.evaluate.held_back import evaluation_rows
from heedful.evaluate.rows import answered
from heedful.report.page import write_pages
from heedful.run import Run
from heedful.system.atomic import read_json, write_json
from heedful.system.lock import lock


def test_every_run_is_evaluated_whole(run: Run) -> None:
    found = read_json(run.evaluation_file)
    assert found.keys() == {"rows", "decides", "models", "paired", "checks", "forgetting", "of", "rows_cut", "left_out"}
    assert found["of"] == {"data": run.config().data.path, "rows": "held back", "settings": {}}
    assert found["forgetting"]["rows"] == 124
    assert found["forgetting"]["paired"]["nll"].keys() == {"difference", "low", "high", "p_value", "verdict", "n"}
    assert found["checks"]["models"]["tuned"]["check_max_words"]["n"] == found["checks"]["rows"] > 0
    lines = [json.loads(line) for line in run.scores_file.read_text().splitlines()]
    assert len(lines) == found["rows"]
    assert lines[0].keys() >= {"id", "place", "models"}
    assert lines[0]["models"].keys() == {"base", "tuned"}
    assert heedful.evaluate(run) == found


def test_a_finished_run_is_not_done_again_and_scores_go_with_the_model_they_tell_of(
    copy: Run, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody takes what an earlier model answered for the new one's, however the resumed training ends."""

    def crash(*arguments: object) -> None:
        with (
            pytest.raises(UsageError, match="in use"),
            lock(copy.path),
        ):  # the run is this process's until it is evaluated
            pass
        raise KeyboardInterrupt

    def no_space(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = (copy.model / "model.safetensors", copy.evaluation_file, copy.responses_file)
    before, told = [file.stat().st_mtime_ns for file in files], read_json(copy.provenance_file)
    _, words = said(["train", "--resume", "--out", copy.path], capsys)
    assert "is finished: it holds the model of all its 7 updates" in " ".join(words.split())
    assert [file.stat().st_mtime_ns for file in files] == before
    assert read_json(copy.provenance_file)["peak_memory"] == told["peak_memory"]
    other = copy.results(str(rows))
    shutil.copytree(copy.path, other.path, ignore=lambda *_: ["checkpoints", "evaluations", "model"])
    other.judge_file.touch()
    (copy.path / "evaluations" / ".DS_Store").touch()  # as file managers do
    (copy.path / "compare-b.html").touch()
    with monkeypatch.context() as full:
        full.setattr(PreTrainedModel, "save_pretrained", no_space)
        with pytest.raises(ModelError, match="No space left"):
            pipeline.train(out=copy.path, settings={"train.epochs": 2}, resume=True)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert (copy.path / "compare-b.html").exists() and copy.report_file.exists()
    monkeypatch.setattr(training, "score_both", crash)
    with pytest.raises(Interrupted, match=f"heedful train --resume --out {copy.path} continues it"):
        pipeline.train(out=copy.path, settings={"train.epochs": 2}, resume=True)
    assert files[0].stat().st_mtime_ns > before[0]
    again = read_json(copy.provenance_file)
    assert (again["updates"], again["started"]) == (14, told["started"])
    assert [later["step"] for later in again["resumed"]] == [7, 7, 14]
    names = ("evaluation.json", "scores.jsonl", "report.html", "compare-b.html")
    left = [results.path / name for results in (copy, other) for name in names[: 2 if results is other else 4]]
    assert not any(file.exists() for file in left) and other.judge_file.exists()
    with pytest.raises(UsageError, match="chose rouge_l to decide before"):  # scores that are gone were known
        pipeline.evaluate(copy, settings={"evaluate.decides": "nll"})
    with pytest.raises(Interrupted):  # what is trained but not evaluated is evaluated
        pipeline.train(out=copy.path, resume=True)


def test_a_run_begun_before_bad_rows_were_looked_for_everywhere_may_skip_them(copy: Run) -> None:
    _, settled = resolve_run(configure(None, {"data.on_bad_row": "skip"}, None, None), copy.path, True)
    assert settled["data"]["on_bad_row"] == "skip"


def test_a_run_that_is_in_use_is_neither_evaluated_nor_exported(copy: Run, rows: Path, tmp_path: Path) -> None:
    """Else old scores might stand beside a new model, or half of one model be exported with half of another."""
    files = {file: file.stat().st_mtime_ns for file in copy.path.rglob("*")}
    with lock(copy.path):
        for work in (pipeline.evaluate, lambda run: pipeline.evaluate(run, str(rows)), pipeline.export):
            with pytest.raises(UsageError, match=rf"{copy.path} is in use by process {os.getpid()} on"):
                work(copy)
        write_pages(copy)  # reading goes on
        assert heedful.load(copy).generate(["One?"])
    assert files.keys() == {*copy.path.rglob("*")}
    held: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("score_both", "carry_out"):
            patch.setattr(pipeline, name, lambda *_: held.append(_who_waits(copy)) or {})
        pipeline.evaluate(copy)
        pipeline.export(copy, out=tmp_path / "out")
    assert all("in use by" in told for told in held) and len(held) == 2


def _who_waits(run: Run) -> str:
    with pytest.raises(UsageError) as refused, lock(run.path):
        pass
    return str(refused.value)


def test_answers_without_their_scores_are_not_taken_for_a_whole_evaluation(
    copy: Run, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its files, an evaluation leaves no set that passes for whole, and what was known stays known."""
    test = evaluation_rows(copy, None)
    assert answered(copy, test)

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heedful.evaluate.base_and_tuned.probe", lambda *arguments: [])
    with monkeypatch.context() as kill:
        kill.setattr("heedful.evaluate.base_and_tuned.write_rows", crash)
        with pytest.raises(KeyboardInterrupt):
            pipeline.evaluate(copy, settings={"generate.max_tokens": 2})
    assert copy.responses_file.exists() and copy.scores_file.exists()
    assert not answered(copy, test)
    with pytest.raises(UsageError, match="chose rouge_l to decide before"):
        pipeline.evaluate(copy, settings={"evaluate.decides": "nll"})
    pipeline.evaluate(copy)
    assert answered(copy, test)


def test_what_decides_is_chosen_anew_until_a_score_is_known(
    copy: Run, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.evaluation_file.unlink()
    told = read_json(copy.provenance_file)
    write_json(copy.provenance_file, {name: fact for name, fact in told.items() if name != "scored"})
    monkeypatch.setattr(pipeline, "score_both", lambda run, config, *_: {"decides": config.evaluate.decides})
    monkeypatch.setattr(pipeline, "write_pages", lambda run: None)
    assert pipeline.evaluate(copy, settings={"evaluate.decides": "chrf"}) == {"decides": "chrf"}
    assert pipeline.evaluate(copy) == {"decides": "chrf"}  # it stays, without being said again
    results = copy.results(str(rows))  # those on other rows are scores too
    results.path.mkdir(parents=True)
    results.evaluation_file.touch()
    with pytest.raises(UsageError, match="chose chrf to decide before"):
        pipeline.evaluate(copy, settings={"evaluate.decides": "nll"})
    with pytest.raises(UsageError, match=r"evaluate.decides was chrf, now nll"):
        pipeline.train(out=copy.path, resume=True, settings={"evaluate.decides": "nll"})


def test_what_cannot_be_evaluated_is_one_sentence(
    copy: Run, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(["evaluate", tmp_path / "none"], capsys)[0] == 2
    code, told = said(["evaluate", copy.path, "--data", tmp_path / "none.json"], capsys)
    assert code == 3 and "none.json" in told
    strange = tmp_path / "strange.json"
    strange.write_text('[{"foo": "a", "bar": "b"}]')
    code, told = said(["evaluate", copy.path, "--data", strange], capsys)
    assert code == 3 and "no known format" in told
    code, told = said(["evaluate", copy.path, "--set", "data.test_share=0.5"], capsys)
    assert code == 2 and "which rows it never saw" in told
    code, told = said(["evaluate", copy.path, "--set", "evaluate.decides=chrf"], capsys)
    assert code == 2 and "chose rouge_l to decide before" in told
    code, told = said(["train", "--resume", "--out", copy.path, "--set", "evaluate.decides=chrf"], capsys)
    assert code == 2 and "evaluate.decides was rouge_l, now chrf" in told
    code, told = said(["evaluate", copy.path, "--judge-model", "x"], capsys)
    assert code == 2 and "--judge URL" in told
    facts = read_json(copy.provenance_file)
    copy.provenance_file.write_text(json.dumps({**facts, "data": "0" * 64}))
    code, told = said(["evaluate", copy.path], capsys)
    assert code == 3 and "is not what" in told and str(rows) in told
    copy.provenance_file.write_text(json.dumps({name: facts[name] for name in ("data", "fingerprint")}))
    code, told = said(["evaluate", copy.path], capsys)
    assert code == 1 and "provenance.json does not tell the run's model" in told
    shutil.rmtree(copy.model)
    code, told = said(["evaluate", copy.path], capsys)
    assert code == 1 and "never finished" in told and "--resume" in told


def test_an_empty_test_part_says_how_to_get_one(rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    none = pipeline.train(
        str(rows), model=str(tiny_folder), settings={**QUICK, "data.test_share": 0}, out=tmp_path / "none"
    )
    with pytest.raises(
        DataError, match=r"held no test rows back. Name some with --data, or train with data.test_share"
    ):
        pipeline.evaluate(none)
