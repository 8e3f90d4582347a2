"""`heedful generate`: a file of questions, and options that cannot stand together."""

from __future__ import annotations

import itertools
import json
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heedful import pipeline
from heedful.cli import main
from heedful.commands import answer_rows, speaking
from heedful.errors import DataError, UsageError
from heedful.generate.engine import Engine
from heedful.records import Completion
from tests.models import byte_tokenizer, tiny_model
from tests.processes import Process, run_heedful

QUICK = {"generate.max_tokens": 3, "generate.precision": "fp32"}


def stop_after(answers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come after so many answers."""
    whole = Engine.answers

    def some(*arguments: Any, **options: Any) -> Iterator[tuple[int, Completion]]:
        yield from itertools.islice(whole(*arguments, **options), answers)
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "answers", some)


def test_questions_without_answers_are_answered_in_order(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": f"Say {word}."} for word in ("red", "green", "blue")]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    out = tmp_path / "out.json"
    engine = pipeline.load(tiny_folder, settings=QUICK)
    expected = [completion.text for completion in engine.generate([r["instruction"] for r in rows])]
    monkeypatch.setattr(pipeline, "load", lambda *arguments, **options: engine)
    answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), out, QUICK)
    answered = [row | {"model_response": text} for row, text in zip(rows, expected, strict=True)]
    assert json.loads(out.read_text()) == answered

    out.unlink()
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), out, QUICK)
    unfinished = tmp_path / "out.json.unfinished"
    head, first, second = map(json.loads, unfinished.read_text().splitlines())
    assert not out.exists()
    left = (head, first[:2], [*second[:2], "stop"])  # the first as an older version kept it, the second as if whole
    unfinished.write_text("\n".join([*map(json.dumps, left), '[2, "half']))  # as a kill leaves a line
    answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), out, QUICK)
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 3 answers are kept" in said
    assert "1 answer cut off at the limit of 3 tokens, or where the model's context ends; --max-tokens N" in said
    assert json.loads(out.read_text()) == answered and not unfinished.exists()

    out.unlink()
    monkeypatch.setattr(engine, "positions", 8)
    with pytest.raises(DataError, match=r"holds 3 rows too long .* \(the first: row 1\)"):
        answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), out, QUICK)
    with pytest.raises(UsageError, match="cannot be written"):
        answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), tmp_path / "rows.json", QUICK)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


@pytest.mark.parametrize("other", ["model", "setting", "row"])
def test_answers_of_another_call_are_not_gone_on_with(
    other: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, model, settings = ["red", "green", "blue"], tiny_folder, dict(QUICK)
    unfinished, data = tmp_path / "out.json.unfinished", tmp_path / "rows.json"
    data.write_text(json.dumps([{"instruction": f"Say {word}."} for word in words]))
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            answer_rows.answer_file(str(model), str(data), tmp_path / "out.json", settings)
    held = unfinished.read_text()

    if other == "model":
        model = tmp_path / "other"
        tiny_model("llama", seed=1, max_position_embeddings=1024).save_pretrained(model)
        byte_tokenizer().save_pretrained(model)
    if other == "setting":
        settings["generate.max_tokens"] = 4
    if other == "row":
        data.write_text(json.dumps([{"instruction": f"Say {word}."} for word in ["pink", *words[1:]]]))
    with pytest.raises(UsageError, match="does not hold answers of this model, by these settings, to these rows"):
        answer_rows.answer_file(str(model), str(data), tmp_path / "out.json", settings)
    assert unfinished.read_text() == held and not (tmp_path / "out.json").exists()


def test_equal_questions_draw_apart_also_after_an_interruption(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"instruction": "Say a word."}] * 7))
    settings = {**QUICK, "generate.temperature": 1.0}
    asked = str(tiny_folder), str(tmp_path / "rows.json")
    answer_rows.answer_file(*asked, tmp_path / "whole.json", settings)
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(KeyboardInterrupt):
            answer_rows.answer_file(*asked, tmp_path / "two.json", settings)
    answer_rows.answer_file(*asked, tmp_path / "two.json", settings)
    texts = [row["model_response"] for row in json.loads((tmp_path / "whole.json").read_text())]
    assert len(set(texts)) == 7
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"instruction": "Say red."}]))
    out, whole = tmp_path / "out.json", Engine.answers

    def slowly(*arguments: Any) -> Iterator[tuple[int, Completion]]:
        with pytest.raises(UsageError, match="Another heedful writes"):
            answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), out, QUICK)
        out.write_text("another's")
        yield from whole(*arguments)

    monkeypatch.setattr(Engine, "answers", slowly)
    with pytest.raises(UsageError, match=r"out\.json appeared meanwhile"):
        answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), out, QUICK)
    assert out.read_text() == "another's"
    out.unlink()
    monkeypatch.setattr(Engine, "answers", lambda *arguments: iter(()))
    answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), out, QUICK)
    assert len(json.loads(out.read_text())) == 1


def test_an_answer_of_several_lines_is_kept_as_one(tmp_path: Path) -> None:
    text = "one\ntwo\r\nthree\u2028four\x85five"
    for expected in ({}, {3: (text, "stop")}):
        with answer_rows._kept(tmp_path / "a.unfinished", "key") as (answers, keep):
            assert answers == expected
            keep(3, text, "stop")


def test_whatever_a_kill_left_of_a_line_is_answered_again(tmp_path: Path) -> None:
    file = tmp_path / "a.unfinished"
    with answer_rows._kept(file, "key") as (_, keep):
        keep(0, "é", "stop")
        size = file.stat().st_size
        keep(1, "日本 🙂", "length")
    content = file.read_bytes()
    for cut in range(size, len(content)):
        file.write_bytes(content[:cut])
        with answer_rows._kept(file, "key") as (answers, _):
            assert answers == {0: ("é", "stop")}
        assert file.read_bytes() == content[:size]


def test_a_full_disk_is_named_with_its_file_and_what_was_kept_stays(
    tiny_folder: Path, tmp_path: Path, heedful: Callable[..., Process]
) -> None:
    rows = [{"instruction": f"Say {number}."} for number in range(40)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    asked = ["generate", tiny_folder, "--data", "rows.json", "--out", "out.json", "--max-tokens", "40"]
    process = Process(tmp_path, _in_little_space, [str(word) for word in asked])
    assert process.wait() == 1
    assert (
        "heedful: Cannot write out.json.unfinished: No space left on device. Free some space: the same"
        in process.stderr
    )
    done = heedful(*asked)
    assert done.poll() == 0, done.stderr
    assert "of 40 answers are kept" in done.stderr
    assert len(json.loads((tmp_path / "out.json").read_text())) == 40


def _in_little_space(words: list[str]) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
    run_heedful(words)


@pytest.mark.parametrize("out", [".", "/", "..", ""])
def test_answers_are_not_written_to_a_folder(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="it is a folder"):
        answer_rows.answer_file("m", "rows.json", Path(out), {})


@pytest.mark.parametrize(
    "held", ["notes", pytest.param("[" * 100_000, id="deep"), [{"instruction": "Say red.", "model_response": "Red."}]]
)
def test_a_file_that_is_there_is_not_replaced(held: Any, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"instruction": "Say red."}]))
    for name in ("out.json", "new.json.unfinished"):
        (tmp_path / name).write_text(json.dumps(held))
    for out, told in (("out.json", r"out\.json exists. Choose another --out, or remove it"), ("new.json", "not hold")):
        with pytest.raises(UsageError, match=told):
            answer_rows.answer_file(str(tiny_folder), str(tmp_path / "rows.json"), tmp_path / out, QUICK)
    assert json.loads((tmp_path / "out.json").read_text()) == held
    assert json.loads((tmp_path / "new.json.unfinished").read_text()) == held


def test_an_answer_reaches_stdout_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = "10\u00a0km, می\u200cخواهم, 👩\u200d🚀, co\u00adop"
    found = Completion(text, (), "stop", 1, 0.1)
    monkeypatch.setattr(pipeline, "generate", lambda *arguments, **options: [found])
    speaking.answer_one("m", "p", "", None, {}, as_json=False)
    assert capsys.readouterr().out == text + "\n"


def test_an_answer_that_was_cut_off_is_told(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["generate", str(tiny_folder), "--prompt", "Hi", "--max-tokens", "3", "--set", "generate.precision=fp32"])
    said = capsys.readouterr()
    assert "Cut off at the limit of 3 tokens; --max-tokens N raises it.\n" in said.err
    assert "Cut off" not in said.out

    found = Completion("Hello.", (1, 2), "stop", 1, 0.1)
    monkeypatch.setattr(pipeline, "generate", lambda *arguments, **options: [found])
    speaking.answer_one("m", "p", "", None, {}, as_json=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("generate m --data f --out o --system s --json", "--system and --json have no effect with --data"),
        ("generate m --prompt p --out o", "--out has no effect with --prompt"),
        ("check rows.json --run r --template own", "DATA and --template have no effect with --run"),
        ("check rows.json --json --show 2", "--show has no effect with --json"),
        ("models list gpt2", "NAME (gpt2) has no effect with list"),
        ("models pull gpt2 --json", "--json has no effect with pull"),
        (
            "generate m --prompt p --columns q=a --format alpaca",
            "--format and --columns have no effect with --prompt",
        ),
        ("evaluate r --columns instruction=q", "--columns has no effect without --data"),
        ("evaluate r --judge-by pairs", "--judge-by has no effect without --judge"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    arguments: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments.split())
    assert end.value.code == UsageError.exit_code
    assert told in capsys.readouterr().err


def test_columns_of_other_names_are_answered(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.csv").write_text("q,id\nSay hi.,1\n")
    options = [
        "--columns",
        "instruction=q",
        "--format",
        "alpaca",
        "--max-tokens",
        "2",
        "--out",
        str(tmp_path / "a.json"),
    ]
    with pytest.raises(SystemExit) as end:
        main(["generate", str(tiny_folder), "--data", str(tmp_path / "q.csv"), *options])
    assert end.value.code == 0
    (row,) = json.loads((tmp_path / "a.json").read_text())
    assert row.keys() == {"q", "id", "model_response"}
    assert "1 rows" not in capsys.readouterr().err


def test_a_place_that_cannot_hold_answers_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        answer_rows.answer_file("m", "rows.json", tmp_path, {})
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere"):
        answer_rows.answer_file("m", "rows.json", tmp_path / "nowhere" / "a.json", {})


def test_settings_that_answering_does_not_read_are_refused(tmp_path: Path) -> None:
    for answer in (
        lambda asked: speaking.answer_one("m", "Hi", "", None, asked, as_json=False),
        lambda asked: answer_rows.answer_file("m", "rows.json", tmp_path / "a.json", asked),
    ):
        with pytest.raises(UsageError, match=r"does not read train\.lr"):
            answer({"train.lr": "1"})


def test_one_text_is_no_list_of_prompts(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="takes a list of prompts"):
        pipeline.load(tiny_folder, settings=QUICK).generate("Hi")
