"""evaluate, compare and sweep on real runs of a tiny model, and one sentence for each thing that cannot be."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_rows
from tests.evaluate.fake_judge import Judge, serving
from transformers import PreTrainedModel

import heedful
from heedful import pipeline, sweep, training
from heedful.atomic import read_json, write_json
from heedful.begin import configure, resolve_run
from heedful.cli import main
from heedful.engines import base_of
from heedful.errors import DataError, HeedfulError, ModelError, UsageError
from heedful.evaluate.endpoint import Endpoint
from heedful.evaluate.held_back import evaluation_rows
from heedful.evaluate.judging import is_answered
from heedful.evaluate.rows import Cell, RowScores, write_rows
from heedful.report import tables
from heedful.report.page import write_pages
from heedful.run import Run, lock
from heedful.settings import dump_config, load_config, override

QUICK = {
    "train.epochs": 1, "encode.template": "chatml", "generate.max_tokens": 6, "train.precision": "fp32",
    "generate.precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows, every second with constraints on its answer."""
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    made: list[dict[str, Any]] = [
        {**row, "checks": {"max_words": 3}} if i % 2 else row for i, row in enumerate(make_rows(60))
    ]
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(rows: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pipeline.train(str(rows), model=str(tiny_folder), settings=QUICK, out=tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    """A run that a test may spoil."""
    shutil.copytree(run.path, tmp_path / "copy")
    return Run(tmp_path / "copy")


@pytest.fixture
def judge() -> Iterator[Judge]:
    with serving() as server:
        yield server


def said(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command line in this process; give its exit code and what it said on stderr."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return int(end.value.code or 0), told


def test_every_run_is_evaluated_whole(run: Run) -> None:
    found = read_json(run.evaluation_file)
    assert found.keys() == {"rows", "decides", "models", "paired", "checks", "forgetting", "of", "rows_cut", "left_out"}
    assert found["of"] == {"data": run.config().data.path, "rows": "held back", "settings": {}}
    assert found["forgetting"]["rows"] == 124
    assert found["forgetting"]["paired"]["nll"].keys() == {"difference", "low", "high", "p_value", "verdict"}
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
        with pytest.raises(UsageError, match="in use"), lock(copy):  # the run is this process's until it is evaluated
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
    with pytest.raises(KeyboardInterrupt):
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
    with pytest.raises(KeyboardInterrupt):  # what is trained but not evaluated is evaluated
        pipeline.train(out=copy.path, resume=True)


def test_a_run_is_whole_wherever_it_is_used_from(
    copy: Run, rows: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Names typed in one folder mean the same from another; what is not the run's base does not pass for it."""
    named = {"data.path": rows.name, "model.name": os.path.relpath(tiny_folder, rows.parent)}
    copy.write_config(load_config(copy.config_file, named))
    began = read_json(copy.provenance_file) | {"model": named["model.name"]}
    monkeypatch.chdir(tmp_path)
    (tmp_path / rows.name).write_text(json.dumps(make_rows(9)))
    write_json(copy.provenance_file, began | {"folder": str(rows.parent)})
    scores = pipeline.evaluate(copy)
    assert scores["models"] == read_json(copy.evaluation_file)["models"]
    assert [*pipeline.load_served(copy.path, True)] == ["copy", "copy-base"]
    assert load_config(copy.config_file).data.path == rows.name
    fingerprint = began["fingerprint"] | {"model": "another"}
    write_json(copy.provenance_file, began | {"folder": str(rows.parent), "fingerprint": fingerprint})
    with pytest.raises(HeedfulError, match="its weights differ"):
        pipeline.evaluate(copy)
    assert [*pipeline.load_served(copy.path, True)] == ["copy"]
    assert "Its base model is not served beside it" in capsys.readouterr().err
    write_json(copy.provenance_file, began | {"folder": str(tmp_path)})
    with pytest.raises(HeedfulError, match=f"{rows.name} is not what"):
        pipeline.evaluate(copy)


def test_a_run_is_resumed_from_another_folder_and_keeps_the_names_that_were_typed(
    copy: Run, rows: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, named = tmp_path / "home", {"data.path": rows.name, "model.name": f"models/{tiny_folder.name}"}
    home.mkdir()
    shutil.copy(rows, home)
    (home / "models").symlink_to(tiny_folder.parent)
    copy.write_config(load_config(copy.config_file, named))
    began = read_json(copy.provenance_file) | {"model": named["model.name"], "folder": str(home)}
    write_json(copy.provenance_file, began)
    monkeypatch.chdir(tmp_path)
    (tmp_path / rows.name).write_text(json.dumps(make_rows(9)))
    longer = {"train.epochs": 2, "evaluate.after_training": False}
    pipeline.train(out=copy.path, settings=longer, resume=True)
    assert copy.updates_in_model() == 14
    assert load_config(copy.config_file) == load_config(copy.config_file, {**named, **longer})
    resolve_run(configure(None, (), home / rows.name, None), copy.path, True)  # another name for the same
    with pytest.raises(UsageError, match=f"data.path was {home / rows.name}, now {rows.name}"):
        resolve_run(configure(None, (), rows.name, None), copy.path, True)
    (home / "sub").mkdir()
    monkeypatch.chdir(home / "sub")
    for name in (rows.name, f"../{rows.name}"):  # as it was typed; as it is called from here
        resolve_run(configure(None, (), name, f"../{named['model.name']}"), copy.path, True)
    (home / "builtin").mkdir()
    assert copy.from_here("builtin:zh") == "builtin:zh" and copy.from_here("builtin") == "builtin"
    monkeypatch.setenv("HOME", str(home))
    resolve_run(configure(None, (), f"~/{rows.name}", None), copy.path, True)
    for asked in ("builtin", home / "builtin"):
        with pytest.raises(UsageError, match=r"data\.path was .*, now "):
            resolve_run(configure(None, (), asked, None), copy.path, True)
    monkeypatch.chdir(home)
    resolve_run(configure(None, (), f"./{rows.name}", named["model.name"]), copy.path, True)


def test_a_run_begun_before_bad_rows_were_looked_for_everywhere_may_skip_them(copy: Run) -> None:
    _, settled = resolve_run(configure(None, {"data.on_bad_row": "skip"}, None, None), copy.path, True)
    assert settled["data"]["on_bad_row"] == "skip"


def test_a_model_behind_a_link_comes_back_after_a_kill(copy: Run, tmp_path: Path) -> None:
    """Killed when the old folder was out of its place, and the new one not yet in it."""
    far, weights = tmp_path / "disk/far", (copy.model / "model.safetensors").read_bytes()
    far.parent.mkdir()
    copy.model.rename(far.with_name(".far.tmp-old-99999999"))
    far.with_name(".far.tmp-99999999").mkdir()
    copy.model.symlink_to(far)
    pipeline.train(out=copy.path, resume=True)
    assert [path.name for path in far.parent.iterdir()] == ["far"] and copy.model.is_symlink()
    assert (copy.model / "model.safetensors").read_bytes() == weights


def test_a_base_that_is_gone_is_missed_before_anything_is_answered(
    copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "heedful.evaluate.base_and_tuned.open_tuned", lambda *_: pytest.fail("the tuned model was opened")
    )
    copy.write_config(copy.config({"model.name": str(tmp_path / "gone")}))
    write_json(copy.provenance_file, read_json(copy.provenance_file) | {"model": str(tmp_path / "gone")})
    with pytest.raises(UsageError, match=f"There is no folder {tmp_path}/gone"):
        pipeline.evaluate(copy)


def test_a_base_in_a_folder_closed_to_us_is_found_by_its_name(
    copy: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def closed(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith("/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root would be let in
        return look(path, *arguments, **options)

    write_json(copy.provenance_file, read_json(copy.provenance_file) | {"model": "/closed/base"})
    monkeypatch.setattr(os, "stat", closed)
    assert base_of(copy).origin == str(tiny_folder)


def test_a_run_is_the_same_by_a_link_and_from_home(copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latest").symlink_to(copy.path)
    monkeypatch.chdir(tmp_path)
    assert [*pipeline.load_served("latest", True)] == ["latest", "latest-base"]
    monkeypatch.chdir(copy.path)
    assert [*pipeline.load_served(".", True)] == ["copy", "copy-base"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert heedful.load("~/copy").sampling.max_tokens == 6
    assert pipeline.open_run("~/copy") == copy


def test_a_run_that_is_in_use_is_neither_evaluated_nor_exported(copy: Run, rows: Path, tmp_path: Path) -> None:
    """Else old scores might stand beside a new model, or half of one model be exported with half of another."""
    files = {file: file.stat().st_mtime_ns for file in copy.path.rglob("*")}
    with lock(copy):
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
    with pytest.raises(UsageError) as refused, lock(run):
        pass
    return str(refused.value)


def test_answers_without_their_scores_are_not_taken_for_a_whole_evaluation(
    copy: Run, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its files, an evaluation leaves no set that passes for whole, and what was known stays known."""
    test = evaluation_rows(copy, None)
    assert is_answered(copy, test)

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heedful.evaluate.base_and_tuned.probe", lambda *arguments: [])
    with monkeypatch.context() as kill:
        kill.setattr("heedful.evaluate.base_and_tuned.write_rows", crash)
        with pytest.raises(KeyboardInterrupt):
            pipeline.evaluate(copy, settings={"generate.max_tokens": 2})
    assert copy.responses_file.exists() and copy.scores_file.exists()
    assert not is_answered(copy, test)
    with pytest.raises(UsageError, match="chose rouge_l to decide before"):
        pipeline.evaluate(copy, settings={"evaluate.decides": "nll"})
    pipeline.evaluate(copy)
    assert is_answered(copy, test)


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
    near = [run.results(data).path for data in ("../a/test.jsonl", "test.jsonl", "org/test.jsonl")]
    assert near == places[:3]


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


def test_two_runs_are_compared_row_by_row(run: Run, copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = heedful.compare(run, copy)
    assert found["runs"] == [str(run.path), str(copy.path)]
    assert found["decides"] == "rouge_l"
    assert found["paired"].keys() >= {"nll", "bits_per_byte", "rouge_l", "corpus_bleu", "stopped", "distinct_2"}
    assert all(pair["verdict"] == "within noise; no row differs" for pair in found["paired"].values())
    assert found["forgetting"]["paired"]["chosen"]["difference"] == 0
    assert found["checks"]["models"].keys() == set(found["runs"])
    (page,) = copy.path.glob("compare-*.html")
    assert f"The comparison as a page: {page}" in capsys.readouterr().err.replace("\n", "")
    written = page.read_bytes()
    page.unlink()
    assert said(["compare", run.path, copy.path], capsys)[0] == 0
    assert page.read_bytes() == written  # the command and the verb of Python do the same


def test_answers_written_under_other_settings_are_not_compared_in_silence(
    run: Run, copy: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_json(copy.evaluation_file)
    found["of"]["settings"] = {"generate.max_tokens": 99, "generate.stop": ["[/b]"]}
    write_json(copy.evaluation_file, found)
    differ = heedful.compare(run, copy)["differences"]
    assert differ == {"generate.max_tokens": [6, 99], "generate.stop": [[], ["[/b]"]]}
    assert said(["compare", run.path, copy.path], capsys)[0] == 0
    (page,) = copy.path.glob("compare-*.html")
    assert "generate.max_tokens" in page.read_text(encoding="utf-8").split('id="settings"')[1]
    tables.show_evaluation(found)
    assert "answered with generate.max_tokens=99, generate.stop=['[/b]']" in " ".join(capsys.readouterr().out.split())


def test_a_sweep_answers_again_what_was_answered_under_other_settings(
    copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[Run] = []
    monkeypatch.setattr(pipeline, "evaluate", again.append)
    sweep._finish(copy, copy.config())
    assert again == []
    found = read_json(copy.evaluation_file)
    found["of"]["settings"] = {"generate.max_tokens": 99}
    write_json(copy.evaluation_file, found)
    sweep._finish(copy, copy.config())
    assert again == [copy]


def test_other_rows_are_refused_with_the_count_of_common_ones(run: Run, copy: Run) -> None:
    lines = copy.scores_file.read_text().splitlines(keepends=True)
    copy.scores_file.write_text("".join(lines[:-2]))
    with pytest.raises(UsageError, match=rf"of which {len(lines) - 2} are the same. Add --common"):
        heedful.compare(run, copy)
    assert heedful.compare(run, copy, common=True)["rows"] == len(lines) - 2
    copy.scores_file.write_text("".join(line.replace('"key": "', '"key": "x') for line in lines))
    with pytest.raises(UsageError, match="no row in common"):
        heedful.compare(run, copy, common=True)
    with pytest.raises(UsageError, match="is given as both runs"):
        heedful.compare(run, run)
    copy.evaluation_file.unlink()
    with pytest.raises(UsageError, match="was not evaluated yet"):
        heedful.compare(run, copy)


def test_a_comparison_is_shown_even_where_its_page_cannot_be_written(
    run: Run, copy: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root may write anywhere, the system is made to refuse."""

    def closed(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    expected = heedful.compare(run, copy)
    capsys.readouterr()
    monkeypatch.setattr("heedful.atomic.open", closed, raising=False)
    monkeypatch.setattr(Path, "unlink", closed)  # which refuses to remove even what is not there
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run.path), str(copy.path), "--json"])
    said = capsys.readouterr()
    assert not end.value.code and json.loads(said.out) == json.loads(json.dumps(expected))
    told = " ".join(said.err.split())
    assert "The comparison is not kept as a page: Cannot write " in told and "Read-only file system" in told


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
    judge.always, judge.reply = None, "11/10"
    assert said(arguments, capsys)[0] == 0
    part = read_json(copy.evaluation_file)["judge"]
    assert part["unscored"] == part["asked"] == 2 * part["rows"]
    assert part["models"] == {}
    assert part["unscored_examples"][0]["reply"] == "11/10"


def test_answers_to_rows_of_other_columns_are_judged_as_stored_and_kept_when_the_judge_is_down(
    copy: Run, tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"q": "Say red.", "a": "red"}]))
    arguments = ["evaluate", copy.path, "--data", other, "--columns", "instruction=q,output=a"]
    arguments += ["--judge", judge.url, "--judge-model", "grader"]
    assert said(arguments, capsys)[0] == 0
    results = copy.results(str(other))
    before = read_json(results.evaluation_file)
    assert before["judge"]["rows"] == 1
    monkeypatch.setattr(pipeline, "score_both", None)  # nothing is answered again
    assert said(arguments, capsys)[0] == 0
    results.judge_file.unlink()
    judge.always = (403, "no")
    assert said(arguments, capsys)[0] == 1
    assert read_json(results.evaluation_file) == before


def test_a_sweep_is_trained_once_and_compared(
    rows: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {
        "vary": ["train.lr=1e-4,1e-2"], "seeds": 2, "model": str(tiny_folder), "settings": QUICK,
        "out": tmp_path / "sweep",
    }  # fmt: skip
    for name in ("loss_plot", "write_pages"):  # pictures, pages and probes have tests of their own
        monkeypatch.setattr(training, name, lambda *arguments: None)
    monkeypatch.setattr("heedful.evaluate.base_and_tuned.probe", lambda *arguments: [])
    found = sweep.sweep(str(rows), **asked)
    assert [v["name"] for v in found["variants"]] == ["lr=1e-4", "lr=1e-2"]
    assert found["default"] == found["compared_with"] == "lr=1e-4"
    first, second = found["variants"]
    assert first["paired"] == {} and second["paired"]["rouge_l"].keys() >= {"difference", "p_value_of_all", "verdict"}
    assert len(first["by_seed"]) == 2
    each = [read_json(Path(path) / "evaluation.json")["models"]["tuned"]["nll"]["value"] for path in second["runs"]]
    assert second["scores"]["nll"]["value"] == pytest.approx(sum(each) / 2)
    assert read_json(tmp_path / "sweep" / "sweep.json") == found
    winner = configure(found["recipe"], (), None, None)
    assert str(winner.train.lr) in {"0.0001", "0.01"} and winner.data.path == str(rows)

    trained: list[Any] = []
    monkeypatch.setattr(pipeline, "train", lambda *a, **k: trained.append(k) or pytest.fail("a run was repeated"))
    assert sweep.sweep(str(rows), **asked) == found
    with pytest.raises(UsageError, match=r"other settings: train.epochs was 1, now 2"):
        sweep.sweep(str(rows), **{**asked, "settings": {**QUICK, "train.epochs": 2}})
    monkeypatch.undo()

    run = Run(Path(second["runs"][0]))  # as if killed: between training and evaluation, and before any checkpoint
    run.scores_file.unlink()
    other = Run(Path(second["runs"][1]))
    assert not other.checkpoints.exists()  # a finished run needs none, and a grid of them would fill a disk
    shutil.rmtree(other.model)
    other.evaluation_file.unlink()
    other.scores_file.unlink()
    again = sweep.sweep(str(rows), **asked)
    assert again["variants"][1]["scores"]["nll"] == second["scores"]["nll"]
    heedful_sweep = ["sweep", rows, "--vary", "train.lr=1e-4,1e-2", "--seeds", 2, "-m", tiny_folder]
    settings = [word for leaf, value in QUICK.items() for word in ("--set", f"{leaf}={value}")]
    with pytest.raises(SystemExit, match="0"):
        main([str(word) for word in (*heedful_sweep, *settings, "--out", tmp_path / "sweep")])
    assert "verdict are of these trainings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ([], "at least one"),
        (["train.lr"], "lists no values"),
        (["train.lr=1e-4,1e-4"], "same settings"),
        (["train.lr=1e-4,0.0001"], "lr=1e-4 and lr=0.0001 are the same settings"),  # YAML reads 1e-4 as text
        (["train.batch_size=8,auto"], "batch_size=8 and batch_size=auto are the same settings"),
        (["train.lr=1e-4,,1e-3"], "lists no values"),
        (["train.precision="], "lists no values"),
        (["train.lrr=1"], "Did you mean 'train.lr'"),
        (["train.seed=1,2"], "--seeds"),
        (["data.seed=1,2"], "judged by the same rows"),
        (["train.lr=1e-4", "train.lr=1e-3"], "each setting once"),
        (["train.epochs=1,-1"], "train.epochs"),
        (["train.method=full,qlora"], "train.method"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_it_trains(vary: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError) as error:
        sweep.sweep("builtin", vary=vary, out=tmp_path / "sweep")
    assert told in str(error.value)
    assert not (tmp_path / "sweep").exists()


def test_a_variant_is_named_by_its_values_and_null_is_one() -> None:
    leaf, values = sweep.axis_of("train.clip=1.0,null")
    assert (leaf, values) == ("train.clip", [1.0, None])
    assert [variant.name for variant in sweep.grid([(leaf, values)], Path("s"), [1])] == ["clip=1.0", "clip=null"]
    both = sweep.grid([("train.precision", ["fp32"]), ("generate.precision", ["bf16"])], Path("s"), [1])
    assert both[0].name == "precision=fp32 precision=bf16"


def variant(name: str, folder: Path, said: list[str]) -> sweep.Variant:
    """Make a variant whose one run scored rows of which this is said."""
    run = Run(folder / name)
    run.path.mkdir()
    cells = [Cell({"rouge_l": i / 40}) for i in range(len(said))]
    scored = [RowScores(key, key, key, {"tuned": cell}) for key, cell in zip(said, cells, strict=True)]
    write_rows(run.scores_file, scored)
    return sweep.Variant(name, {}, (run,))


@pytest.mark.parametrize("rows", [29, 30])
def test_variants_are_compared_on_the_same_rows_alone(rows: int, tmp_path: Path) -> None:
    first = variant("lr=1", tmp_path, [f"a{i}" for i in range(30)])
    other = variant("lr=2", tmp_path, [f"b{i}" for i in range(rows)])
    assert sweep.table([first], first, "rouge_l")["rows"] == 30
    with pytest.raises(UsageError, match=r"lr=2 was evaluated on other rows than .*lr=1. Choose another --out"):
        sweep.table([first, other], first, "rouge_l")


def scored_variant(name: str, folder: Path, metric: str, value: float) -> sweep.Variant:
    """Make a variant whose one run scored 30 rows alike."""
    run = Run(folder / name)
    run.path.mkdir()
    cell = Cell({metric: value}, {"targets": 1})
    write_rows(run.scores_file, [RowScores(key, key, key, {"tuned": cell}) for key in map(str, range(30))])
    return sweep.Variant(name, {}, (run,))


@pytest.mark.parametrize("decides", ["rouge_l", "nll"])
def test_the_winner_is_the_variant_whose_deciding_score_is_best(decides: str, tmp_path: Path) -> None:
    low, high = (scored_variant(f"lr={value}", tmp_path, decides, value) for value in (0.2, 0.8))
    best = {"rouge_l": high, "nll": low}[decides]
    for first, second in ((low, high), (high, low)):
        assert sweep.table([first, second], first, decides)["winner"] == best.name


def test_a_sweep_is_not_continued_on_other_data(
    run: Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.json"
    shutil.copy(rows, data)
    done = Run(tmp_path / "sweep" / "lr=1e-4" / "seed-123")
    shutil.copytree(run.path, done.path)
    done.write_config(run.config({"train.lr": 1e-4, "data.path": str(data)}))
    asked: list[Run] = []
    monkeypatch.setattr(sweep, "_finish", lambda run, config: asked.append(run))
    monkeypatch.setattr(sweep, "table", lambda *arguments: {"winner": "lr=1e-4"})
    settings = {**QUICK, "model.name": run.config().model.name}
    again: dict[str, Any] = {"vary": ["train.lr=1e-4,1e-2"], "settings": settings, "out": tmp_path / "sweep"}
    sweep.sweep(str(data), **again)
    assert len(asked) == 2
    data.write_text(json.dumps(json.loads(data.read_text(encoding="utf-8"))[:-1]), encoding="utf-8")
    with pytest.raises(UsageError, match=r"rows\.json is not what .*seed-123 was trained on.* Choose another --out"):
        sweep.sweep(str(data), **again)
    assert len(asked) == 2


def test_a_sweep_does_not_move_into_a_run(run: Run) -> None:
    with pytest.raises(UsageError, match="holds a run, not a sweep"):
        sweep.sweep("builtin", vary=["train.lr=1e-4"], out=run.path)


@pytest.mark.parametrize("vary", ["encode.template=alpaca,chatml", "model.name=a,b"])
def test_nats_a_token_do_not_decide_between_other_tokens(vary: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"vary": [vary], "settings": {"evaluate.decides": "nll"}, "out": tmp_path / "sweep"}
    with pytest.raises(UsageError, match=f"nll cannot compare what --vary {vary.partition('=')[0]} gives"):
        sweep.sweep("builtin", **asked)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("settings", "vary", "default"),
    [
        ({}, "train.lr=5e-5,1e-4", "lr=1e-4"),  # no setting says so, but it is what full fine-tuning takes
        ({"train.method": "lora"}, "train.lr=1e-4,1e-3", "lr=1e-3"),
        ({"train.lr": 2e-4}, "train.lr=1e-4,2e-4", "lr=2e-4"),
        ({}, "train.lr=5e-5,2e-4", None),
        ({}, "train.method=lora,full", "method=full"),
    ],
)
def test_the_default_is_the_variant_that_would_be_trained_without_a_sweep(
    settings: dict[str, Any], vary: str, default: str | None, tmp_path: Path
) -> None:
    variants = sweep.grid([sweep.axis_of(vary)], tmp_path, [123])
    assert [v.name for v in variants if sweep._is_default(v, load_config(None, settings))] == [default] * bool(default)


def test_p_values_of_many_variants_are_adjusted() -> None:
    entries = [{"paired": {"nll": {"p_value": p, "verdict": "better"}}} for p in (0.04, 0.01, 0.03)]
    sweep._adjust([{"paired": {}}, *entries], "nll")
    pairs = [entry["paired"]["nll"] for entry in entries]
    assert [pair["p_value_of_all"] for pair in pairs] == pytest.approx([0.06, 0.03, 0.06])  # Holm, by hand
    assert [pair["verdict"] for pair in pairs] == [
        "within noise; of 3 variants one may look so by chance", "better",
        "within noise; of 3 variants one may look so by chance",
    ]  # fmt: skip


def test_a_sweep_of_an_earlier_version_goes_on_after_its_runs_were_resumed(tmp_path: Path) -> None:
    """It did not write which precision was asked for; a resume settles one."""
    asked, run = load_config(None, ()), Run(tmp_path)
    run.config_file.write_text(dump_config(override(asked, {"train.precision": "fp32"})), encoding="utf-8")
    write_json(run.provenance_file, {"asked": {"encode.batch_tokens": "auto"}})
    sweep._check_earlier({tmp_path: asked}, asked.data)
