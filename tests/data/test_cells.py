"""What parts the cells of a table is told from its header, as strictly as rows are read, and first from its ending."""

from pathlib import Path

import pytest
from tests.data.files import values, write


@pytest.mark.parametrize(
    ("name", "header", "sign", "columns"),
    [
        ("d.tsv", "question\tanswer, short; or long", "\t", ["question", "answer, short; or long"]),
        ("d.tsv", '"question, long",answer', ",", ["question, long", "answer"]),
        ("d.csv", '"question";"answer, short"', ";", ["question", "answer, short"]),
        ("d.csv", "question,answer; short", ",", ["question", "answer; short"]),
        ("d.csv", "\n\r\nquestion;answer", ";", ["question", "answer"]),
    ],
)
def test_another_sign_in_a_name_parts_nothing(
    tmp_path: Path, name: str, header: str, sign: str, columns: list[str]
) -> None:
    path = write(tmp_path / name, f"{header}\nHi?{sign}Hello.\n")
    assert values(path) == [dict(zip(columns, ("Hi?", "Hello."), strict=True))]


def test_questions_alone_may_hold_commas_in_a_file_of_tabs(tmp_path: Path) -> None:
    path = write(tmp_path / "d.tsv", "instruction\nWhat is it, then?\nWho?\n")
    assert values(path) == [{"instruction": "What is it, then?"}, {"instruction": "Who?"}]
