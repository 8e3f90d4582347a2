"""What is asked in rows that may lack the answer, in the order of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.config import DataConfig
from heedful.data.prompts import prompts
from heedful.errors import DataError
from heedful.records import Message
from heedful.reporter import Reporter

HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello"}
ASKED, SAID = Message("user", "Hi"), Message("assistant", "Hello")
ROWS: dict[str, tuple[dict[str, Any], tuple[Message, ...], dict[str, Any]]] = {
    "alpaca": ({"instruction": "Hi"}, (ASKED,), {}),
    "alpaca with an input": ({"instruction": "Hi", "input": "x"}, (Message("user", "Hi", input="x"),), {}),
    "alpaca with an empty answer": ({"instruction": "Hi", "output": ""}, (ASKED,), {}),
    "alpaca with an answer": ({"instruction": "Hi", "output": "Hello"}, (ASKED,), {}),
    "dolly": ({"instruction": "Hi", "context": "x"}, (Message("user", "Hi", input="x"),), {}),
    "prompt": ({"prompt": "Hi", "system": "Be kind."}, (Message("system", "Be kind."), ASKED), {}),
    "prompt of turns": ({"prompt": [HI, HELLO, HI], "completion": None}, (ASKED, SAID, ASKED), {}),
    "two answers": ({"prompt": "Hi", "completion": "Hello", "response": ["a", "b"]}, (ASKED,), {}),
    "question": ({"question": "Hi", "id": 7}, (ASKED,), {}),
    "messages": ({"messages": [HI, HELLO, HI]}, (ASKED, SAID, ASKED), {}),
    "messages with the answer": ({"messages": [HI, HELLO]}, (ASKED,), {}),
    "messages with answers of no weight": ({"messages": [HI, HELLO | {"weight": 0}]}, (ASKED,), {}),
    "sharegpt": ({"conversations": [{"from": "human", "value": "Hi"}]}, (ASKED,), {}),
    "other names": ({"q": "Hi"}, (ASKED,), {"columns": {"instruction": "q"}}),
    "messages of another name": ({"conversations": [HI]}, (ASKED,), {"columns": {"messages": "conversations"}}),
    "turns of another name": (
        {"messages": [{"from": "human", "value": "Hi"}]}, (ASKED,), {"columns": {"conversations": "messages"}},
    ),
    "turns as other fields hold them": ({"messages": [{"from": "human", "value": "Hi"}]}, (ASKED,), {}),
    "beside an empty column": ({"instruction": "Hi", "messages": None}, (ASKED,), {}),
    "a format that is named": ({"instruction": "Hi"}, (ASKED,), {"format": "dolly"}),
}  # fmt: skip


@pytest.mark.parametrize(("row", "asked", "settings"), ROWS.values(), ids=ROWS.keys())
def test_a_row_without_answer_is_asked(
    row: dict[str, Any], asked: tuple[Message, ...], settings: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row, row]))
    assert prompts(DataConfig(path=str(path), **settings)) == [(row, asked)] * 2


@pytest.mark.parametrize(
    ("question", "answer"),
    [("instruction", "response"), ("instruction", "output"), ("question", "answer"), ("prompt", "response")],
)
@pytest.mark.parametrize("answered", [0, 1])
def test_one_format_is_found_for_rows_of_which_some_are_answered(
    question: str, answer: str, answered: int, tmp_path: Path
) -> None:
    rows = [{question: "Hi"}, {question: "Hi"}]
    rows[answered] |= {answer: "Hello"}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    assert prompts(DataConfig(path=str(path))) == [(row, (ASKED,)) for row in rows]


def test_rows_of_two_formats_are_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"instruction": "Hi"}, {"messages": [HI]}]))
    with pytest.raises(DataError, match=r"different formats: alpaca at \S+ \(row 1\) and messages at"):
        prompts(DataConfig(path=str(path)))


def test_files_keep_their_order(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": f"{name} {k}"} for k in range(3)]))
    texts = [turns[0].content for _, turns in prompts(DataConfig(path=str(tmp_path)))]
    assert sorted(texts[:3]) == texts[:3] and sorted(texts[3:]) == texts[3:] and len({*texts}) == 6


def test_a_row_that_asks_nothing_is_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "Hi"}\n{"instruction": " "}\n')
    with pytest.raises(DataError, match=r'rows.jsonl:2.*"instruction" is empty'):
        prompts(DataConfig(path=str(path)))
    told: list[str] = []
    found = prompts(DataConfig(path=str(path), on_bad_row="skip"), Reporter(told.append))
    assert len(found) == 1
    assert told == [
        'The rows are of the format alpaca. Read: "instruction".',
        "1 of 2 rows cannot be read and are left out.",
    ]
