"""What a row may ask of its answer, and the one sentence for what it may not."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from heedful.config import DataConfig
from heedful.data import load_splits
from heedful.data.checks import KINDS, read_checks
from heedful.data.turns import BadRow
from heedful.errors import DataError
from heedful.records import Check

GOOD: list[tuple[Any, tuple[Check, ...]]] = [
    (None, ()),
    ("", ()),
    ({}, ()),
    ({"max_words": 20}, (Check("max_words", 20),)),
    ({"max_words": 20.0, "case": None}, (Check("max_words", 20),)),  # as Parquet gives them
    ('{"one_of": ["yes", "no"]}', (Check("one_of", ("yes", "no")),)),  # as CSV gives them
    ({"contains": "Paris"}, (Check("contains", ("Paris",)),)),
    ({"valid_json": True, "lines": 3}, (Check("valid_json", True), Check("lines", 3))),
    ({"matches": r"^\d+$"}, (Check("matches", r"^\d+$"),)),
    ({"case": "upper"}, (Check("case", "upper"),)),
]

BAD: list[tuple[Any, str]] = [
    (["max_words"], "a list, not an object"),
    (3, "the number 3, not an object"),
    ("max_words=3", "is not JSON"),
    ({"max_wrods": 3}, "did you mean 'max_words'"),
    ({"polite": True}, "known are valid_json"),
    ({"valid_json": False}, "is false, not true"),
    ({"valid_json": "yes"}, "not true"),
    ({"max_words": 0}, "not a whole number of at least 1"),
    ({"max_words": 2.5}, "not a whole number"),
    ({"max_words": True}, "is true, not a whole number"),
    ({"max_words": "ten"}, 'is "ten", not a whole number'),
    ({"max_words": float("inf")}, "not a whole number"),
    ({"max_words": float("nan")}, "not a whole number"),
    ({"contains": []}, "an empty list, not a text or a list of texts"),
    ({"contains": ["a", 3]}, "a list of texts"),
    ({"one_of": [" "]}, "a list of texts"),
    ({"starts_with": ""}, "is empty, not text"),
    ({"matches": "(a"}, "is not a regular expression"),
    ({"matches": "a" * 1001}, "1001 characters"),
    ({"matches": 7}, "not text"),
    ({"case": "title"}, 'neither "lower" nor "upper"'),
    ({"case": []}, 'neither "lower" nor "upper"'),
]


@pytest.mark.parametrize(("value", "checks"), GOOD)
def test_checks_are_read(value: Any, checks: tuple[Check, ...]) -> None:
    assert read_checks(value) == checks


@pytest.mark.parametrize(("value", "told"), BAD)
def test_an_unusable_check_gets_one_sentence(value: Any, told: str) -> None:
    with pytest.raises(BadRow) as error:
        read_checks(value)
    assert told.lower() in str(error.value).lower()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [[], {}, [[]], {"a": 1}, -1, 10**400, "\ud800", object()])
def test_no_value_breaks_the_reader(kind: str, value: Any) -> None:
    with suppress(BadRow):
        read_checks({kind: value})


def test_a_row_keeps_its_checks_and_a_bad_one_is_named_by_place(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {i}.", "output": str(i), "checks": {"contains": str(i)}} for i in range(1, 21)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits, receipt = load_splits(DataConfig(path=str(path)))
    assert receipt.not_read == ()
    (row,) = [row for part in (splits.train, splits.validation, splits.test) for row in part if row.place.row == 7]
    assert row.checks == (Check("contains", ("7",)),)

    rows[6]["checks"] = {"contain": "7"}  # type: ignore[dict-item]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as error:
        load_splits(DataConfig(path=str(path)))
    assert str(error.value).startswith(f'{path}:7 (row 7): there is no check "contain".')
    assert "'contains'" in str(error.value)


def test_another_column_may_hold_the_checks(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('question,answer,must\nSay 1.,1,"{""max_words"": 1}"\n')
    config = DataConfig(path=str(path), columns={"checks": "must"}, test_share=0, validation_share=0)
    (row,) = load_splits(config)[0].train
    assert row.checks == (Check("max_words", 1),)
