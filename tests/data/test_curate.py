"""Every row is accounted for, the parts are of the asked sizes, and what stands twice is found and kept together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.data.made_rows import distinct, given_rows, talk, unrolled

from heedful.config import DataConfig
from heedful.data import load_splits
from heedful.errors import DataError
from heedful.reporter import Reporter


def test_the_receipt_accounts_for_every_row(tmp_path: Path) -> None:
    rows = [{"instruction": text, "output": "yes", "source": "me"} for text in distinct(98)]
    lines = [json.dumps(row) for row in [*rows, {"instruction": "a", "output": 3}, {"instruction": "b", "output": 4}]]
    (tmp_path / "d.jsonl").write_text("\n".join([*lines[:50], "{broken", *lines[50:]]))
    splits, receipt = load_splits(DataConfig(path=str(tmp_path / "d.jsonl"), on_bad_row="skip"))
    told = json.loads(json.dumps(receipt.as_dict()))
    assert (told["read"], told["kept"]) == (101, 98)
    assert told["skipped"] == {"not valid JSON or CSV": 1, 'field "output" is not text': 2}
    assert told["first_skipped"][1] == f'{tmp_path}/d.jsonl:100 (row 100): field "output" is the number 3, not text.'
    assert told["columns"] == {"instruction": "instruction", "output": "output"}
    assert told["not_read"] == ["source"]
    assert (told["format"], told["split"], len(told["sha256"])) == ("alpaca", "leak_aware", 64)
    assert told["sizes"] == {"train": len(splits.train), "validation": 5, "test": 10}


def test_the_format_and_the_columns_that_are_not_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([{"instruction": "a", "response": "b", "id": 7, "context": ""}] * 2))
    said: list[str] = []
    load_splits(DataConfig(path=str(tmp_path / "d.json")), Reporter(said.append))
    why = 'each row has "instruction" and "response"'
    read = '"instruction", "response" and "context"; not read: "id"'
    assert said == [f"The rows are of the format dolly ({why}). Read: {read}."]


def test_what_a_message_holds_besides_its_text_is_named_as_not_read(tmp_path: Path) -> None:
    asks = {"role": "user", "content": "a", "name": "Ann", "tool_calls": None}
    says = {"role": "assistant", "content": "b", "weight": 1, "reasoning_content": "hm", "refusal": None}
    rows = [{"talk": [asks, says], "tools": []}, {"talk": [asks, {**says, "annotations": [1]}]}]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    receipt = load_splits(DataConfig(path=str(tmp_path / "d.json"), columns={"messages": "talk"}))[1]
    assert receipt.columns == {"messages": "talk"}
    assert receipt.not_read == ("tools", "talk[].name", "talk[].reasoning_content", "talk[].annotations")


def test_what_a_message_says_with_false_or_zero_is_named_as_not_read_too(tmp_path: Path) -> None:
    asks, says = {"role": "user", "content": "a", "name": ""}, {"role": "assistant", "content": "b"}
    more = {"learn": False, "score": 0, "tool_calls": [], "audio": None}
    (tmp_path / "d.json").write_text(json.dumps([{"messages": [asks, says | more]}] * 2))
    receipt = load_splits(DataConfig(path=str(tmp_path / "d.json")))[1]
    assert receipt.not_read == ("messages[].learn", "messages[].score")


def test_turns_that_are_all_marked_to_be_trained_are_read_and_the_questions_marks_named(tmp_path: Path) -> None:
    turns = [{"role": role, "content": text, "train": True} for role, text in (("user", "a"), ("assistant", "b"))]
    rows = [{"messages": turns}] * 2
    (tmp_path / "d.json").write_text(json.dumps(rows))
    splits, receipt = load_splits(DataConfig(path=str(tmp_path / "d.json"), split="in_order"))
    assert [message.supervised for message in splits.train[0].messages] == [None, True]
    assert receipt.not_read == ("messages[].train (on no answer)",)


def test_a_skipped_row_of_another_format_is_counted_wherever_it_stands(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"instruction": text, "output": "yes"} for text in distinct(30)]
    (tmp_path / "d.json").write_text(json.dumps([{"prompt": "a", "completion": "b"}, *rows]))
    receipt = load_splits(DataConfig(path=str(tmp_path / "d.json"), on_bad_row="skip"))[1]
    assert (receipt.format, receipt.kept, receipt.skipped) == ("alpaca", 30, {"another format": 1})


def test_of_two_answers_the_one_that_is_not_read_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "a", "completion": "b", "response": ["c", "d"]}] * 2
    (tmp_path / "both.json").write_text(json.dumps(rows))
    splits, receipt = load_splits(DataConfig(path=str(tmp_path / "both.json"), split="in_order"))
    assert splits.train[0].answer == "b"
    assert receipt.columns == {"prompt": "prompt", "completion": "completion"}
    assert receipt.not_read == ("response",)
    (tmp_path / "either.json").write_text(json.dumps([rows[0], {"prompt": "c", "response": "d"}]))
    receipt = load_splits(DataConfig(path=str(tmp_path / "either.json")))[1]
    assert receipt.columns == {"prompt": "prompt", "completion": "completion", "response": "response"}
    assert receipt.not_read == ("response",)  # of the first row


def test_a_bad_row_stops_unless_it_may_be_skipped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'^\S+d\.json:1 \(row 3\): field "instruction" is empty\.'):
        given_rows(tmp_path / "d.json", ["a", "b", "", *distinct(97)])


def test_what_fails_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what was killed, once its rows are read again."""
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError):
        given_rows(tmp_path / "d.json", ["a", "b", "", *distinct(97)])
    (folder,) = (path for path in (tmp_path / "home/splits").iterdir() if path.is_dir())
    assert not list(folder.iterdir())
    monkeypatch.setattr("heedful.data.curate._split", _killed)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        given_rows(tmp_path / "d.json", distinct(100))
    monkeypatch.undo()
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    (scratch,) = (tmp_path / "home/splits").glob("*/scratch")
    given_rows(tmp_path / "d.json", distinct(100))
    assert not scratch.exists()
    assert (scratch.parent / "MANIFEST.json").exists()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("bad", "stops"), [(5, False), (6, True)])
def test_more_than_five_in_a_hundred_are_too_many_to_skip(tmp_path: Path, bad: int, stops: bool) -> None:
    questions = [""] * bad + distinct(100 - bad)
    if stops:
        with pytest.raises(DataError, match=r"6 of 100 rows are unusable, more than 5%\. The first: .*\(row 1\)"):
            given_rows(tmp_path / "d.json", questions, on_bad_row="skip")
    else:
        assert given_rows(tmp_path / "d.json", questions, on_bad_row="skip")[1].kept == 95


def test_ten_skipped_rows_are_named(tmp_path: Path) -> None:
    receipt = given_rows(tmp_path / "d.json", [""] * 12 + distinct(300), on_bad_row="skip")[1]
    assert len(receipt.first_skipped) == 10
    assert receipt.skipped == {'field "instruction" is empty': 12}


def test_no_row_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.json holds no rows"):
        given_rows(tmp_path / "d.json", [])


def test_duplicates_and_leaks_are_counted(tmp_path: Path) -> None:
    first = distinct(17)
    nearly = first[1].upper() + "!"
    receipt = given_rows(tmp_path / "d.json", [*first, first[0], nearly, "new and unlike all"], split="in_order")[1]
    assert receipt.sizes == {"train": 17, "validation": 1, "test": 2}
    assert (receipt.exact_duplicates, receipt.near_duplicates) == (1, 2)
    assert receipt.leaks == {"validation": {"exact": 0, "near": 0}, "test": {"exact": 1, "near": 2}}


def test_leak_aware_leaks_nothing(tmp_path: Path) -> None:
    questions = [text + mark for text in distinct(100) for mark in ("", "!", "?")]
    receipt = given_rows(tmp_path / "d.json", questions)[1]
    assert receipt.near_duplicates == 200
    assert receipt.leaks == {name: {"exact": 0, "near": 0} for name in ("validation", "test")}
    assert (receipt.sizes["validation"], receipt.sizes["test"]) == (15, 30)


def test_the_same_instruction_with_another_input_is_no_duplicate(tmp_path: Path) -> None:
    rows = [{"instruction": "Say it.", "input": text, "output": "yes"} for text in distinct(20)]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    assert load_splits(DataConfig(path=str(tmp_path / "d.json")))[1].near_duplicates == 0


def test_where_a_text_ends_matters(tmp_path: Path) -> None:
    rows = [{"instruction": "ab", "input": "c", "output": "d"}, {"instruction": "a", "input": "bc", "output": "d"}]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    assert load_splits(DataConfig(path=str(tmp_path / "d.json")))[1].exact_duplicates == 0


def test_a_row_with_which_a_row_of_train_begins_leaks(tmp_path: Path) -> None:
    short, long, *_ = unrolled(2, 2)
    answered = [short[0], ("assistant", "No."), *long[2:]]  # begins with the same question, but another answer
    unlike = [("user", "Who?"), ("assistant", "Ann.")]
    (tmp_path / "test.json").write_text(json.dumps([talk(short), talk(unlike)]))
    for row, leaks in ((long, 1), (answered, 0)):
        (tmp_path / "train.json").write_text(json.dumps([talk(row)]))
        receipt = load_splits(DataConfig(path=str(tmp_path)))[1]
        assert receipt.leaks["test"] == {"exact": leaks, "near": 0}


def test_what_the_system_says_makes_no_two_questions_alike_or_unlike(tmp_path: Path) -> None:
    days = [f"You are a helpful assistant who answers in few words. Today is day {day}." for day in range(60)]
    rows = [{"system": day, "instruction": q, "output": "yes"} for day, q in zip(days, distinct(60), strict=True)]
    (tmp_path / "d.json").write_text(json.dumps([*rows, rows[7] | {"system": days[8]}]))
    receipt = load_splits(DataConfig(path=str(tmp_path / "d.json")))[1]
    assert (receipt.exact_duplicates, receipt.near_duplicates) == (1, 1)
    assert receipt.sizes == {"train": 52, "validation": 3, "test": 6}


def test_reading_data_imports_no_torch() -> None:
    check = "import heedful.data, sys; print({'torch', 'transformers', 'httpx2', 'pyarrow'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
