"""Rows are split by their shares, and what is alike or one conversation stays on one side."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.made_rows import distinct, given_rows, talk, unrolled

from heedful.config import DataConfig
from heedful.data import load_splits, split
from heedful.data.split import Shares
from heedful.errors import DataError


def in_order(*arguments: Any, **named: Any) -> dict[str, list[int]]:
    return {name: part.tolist() for name, part in split.in_order(*arguments, **named).items()}


def leak_aware(*arguments: Any, **named: Any) -> dict[str, list[int]]:
    return {name: part.tolist() for name, part in split.leak_aware(*arguments, **named).items()}


@pytest.mark.parametrize(
    ("rows", "shares", "sizes"),
    [
        (1100, (0.05, 0.1), (935, 55, 110)),
        (1000, (0.05, 0.1), (850, 50, 100)),
        (7, (0.05, 0.1), (5, 2, 0)),
        (7, (0.0, 0.1), (6, 0, 1)),
        (7, (0.1, 0.0), (6, 1, 0)),
        (7, (0.0, 0.0), (7, 0, 0)),
        (100, (0.3, 0.57), (13, 30, 57)),  # 100 * (1 - 0.3 - 0.57) is 13.000000000000007, or 12.99..., in floats
        (0, (0.05, 0.1), (0, 0, 0)),
    ],
)
def test_in_order_cuts_by_the_written_shares(
    rows: int, shares: tuple[float, float], sizes: tuple[int, int, int]
) -> None:
    parts = in_order(list(range(rows)), Shares(*shares), seed=0)
    assert (len(parts["train"]), len(parts["validation"]), len(parts["test"])) == sizes
    assert parts["train"] + parts["test"] + parts["validation"] == list(range(rows))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 10, 11, 19, 20, 1100])
def test_leak_aware_sizes_are_the_rounded_shares(rows: int) -> None:
    parts = leak_aware(list(range(rows)), Shares(0.05, 0.1), seed=1)
    wanted = [round(rows * 5 / 100), round(rows * 10 / 100)]
    assert [len(parts["validation"]), len(parts["test"])] == wanted
    assert sorted(itertools.chain(*parts.values())) == list(range(rows))


@given(st.lists(st.integers(0, 8), max_size=60), st.integers(0, 3), st.sampled_from([0.0, 0.05, 0.1, 0.4]))
def test_no_cluster_is_torn_and_no_row_lost(clusters: list[int], seed: int, share: float) -> None:
    parts = leak_aware(clusters, Shares(share, share), seed)
    assert sorted(itertools.chain(*parts.values())) == list(range(len(clusters)))
    owners = {(clusters[row], name) for name, part in parts.items() for row in part}
    assert len(owners) == len(set(clusters))
    assert parts["train"] or not clusters
    assert parts == leak_aware(clusters, Shares(share, share), seed)


def test_something_is_left_to_train_on() -> None:
    assert len(leak_aware([0, 1], Shares(0.0, 0.9), 0)["train"]) == 1


def test_the_seed_decides_who_is_held_back() -> None:
    first, second = (leak_aware(list(range(100)), Shares(0.05, 0.1), seed) for seed in (1, 2))
    assert first["test"] != second["test"]
    assert first["test"] != sorted(first["test"])


def test_a_large_cluster_is_taken_only_where_it_comes_nearer() -> None:
    assert len(leak_aware([0] * 12 + [1] * 88, Shares(0.0, 0.1), 0)["test"]) == 12
    assert len(leak_aware([0] * 25 + [1] * 75, Shares(0.0, 0.1), 0)["test"]) == 0


@pytest.mark.parametrize("part", ["test", "valid", "train"])
def test_a_part_without_rows_is_no_part_of_a_folder(tmp_path: Path, part: str) -> None:
    for name in ("train", "valid", "test"):
        rows = [] if name == part else [{"instruction": text, "output": "yes"} for text in distinct(9)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=rf"{part}\.json is the \w+ part, but holds no rows\. Give it some"):
        load_splits(DataConfig(path=str(tmp_path)))


def test_one_row_is_trained_on_and_the_empty_parts_are_named(tmp_path: Path) -> None:
    splits, receipt = given_rows(tmp_path / "d.json", ["a"])
    assert (len(splits.train), receipt.leaks["test"]) == (1, {"exact": 0, "near": 0})
    assert receipt.notes == (
        "The validation part is empty: there will be no validation loss, and the last weights are kept.",
        "The test part is empty: there will be no final scores.",
    )


def test_rows_that_are_all_alike_cannot_be_held_back_and_the_receipt_says_so(tmp_path: Path) -> None:
    questions = [f"Please repeat the following number in words, slowly and with care: {n}" for n in range(100)]
    receipt = given_rows(tmp_path / "d.json", questions)[1]
    assert receipt.sizes == {"train": 100, "validation": 0, "test": 0}
    assert receipt.notes[-1].startswith("Fewer rows than asked are held back: 99 of 100 rows are near-duplicates")
    assert not given_rows(tmp_path / "e.json", distinct(100))[1].notes


def test_parts_that_are_files_are_not_asked_for_more_rows(tmp_path: Path) -> None:
    """Rows that are alike hold nothing back from files of their own."""
    for part, few in (
        ("train", [*distinct(98), "a b c d e f g", "a b c d e f g h"]),
        ("valid", ["x"]),
        ("test", ["y"]),
    ):
        rows = [{"instruction": text, "output": "b"} for text in few]
        (tmp_path / f"{part}.json").write_text(json.dumps(rows), encoding="utf-8")
    receipt = load_splits(DataConfig(path=str(tmp_path)))[1]
    assert receipt.sizes == {"train": 100, "validation": 1, "test": 1} and receipt.near_duplicates == 1
    assert receipt.notes == ()


def test_rows_that_grow_out_of_one_another_stay_together(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([talk(row) for row in unrolled(40, 3)]))
    splits, receipt = load_splits(DataConfig(path=str(tmp_path / "d.json")))
    assert receipt.sizes == {"train": 102, "validation": 6, "test": 12}
    learned = {row.messages[:end] for row in splits.train for end in range(2, len(row.messages) + 1)}
    assert not any(row.messages in learned for row in (*splits.validation, *splits.test))


def test_rows_of_one_conversation_cannot_be_held_back_and_the_receipt_says_so(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([talk(row) for row in unrolled(1, 40)]))
    receipt = load_splits(DataConfig(path=str(tmp_path / "d.json")))[1]
    assert receipt.sizes == {"train": 40, "validation": 0, "test": 0}
    assert "39 of 40 rows are near-duplicates or begin another, and stay together" in receipt.notes[-1]


@pytest.mark.parametrize(("before", "held_back"), [("a", 0), ("c", 10)])
def test_a_history_is_the_beginning_of_a_conversation_too(tmp_path: Path, before: str, held_back: int) -> None:
    rows = [
        {"instruction": "Go on.", "output": "b", "history": [["Who wrote it?", before]]},
        {"instruction": "Who wrote it?", "output": "a"},
    ]
    (tmp_path / "d.json").write_text(json.dumps(rows * 10))
    config = DataConfig(path=str(tmp_path / "d.json"), validation_share=0.0, test_share=0.5)
    assert load_splits(config)[1].sizes["test"] == held_back


@pytest.mark.parametrize(("part", "sizes"), [("val", [90, 7, 10]), ("test", [95, 5, 7])])
def test_a_part_that_is_a_file_is_not_taken_out_of_train_too(tmp_path: Path, part: str, sizes: list[int]) -> None:
    for name, questions in (("train", distinct(100)), (part, distinct(7, seed=1))):
        rows = [{"instruction": text, "output": "yes"} for text in questions]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    assert list(load_splits(DataConfig(path=str(tmp_path)))[1].sizes.values()) == sizes


def test_the_files_of_a_folder_stay_the_split_and_the_rest_comes_out_of_train(tmp_path: Path) -> None:
    questions = distinct(120)
    given_rows(tmp_path / "d" / "test.json", [*questions[100:], questions[0]])
    (tmp_path / "d" / "train.json").write_text(
        json.dumps([{"instruction": text, "output": "yes"} for text in questions[:100]])
    )
    splits, receipt = load_splits(DataConfig(path=str(tmp_path / "d")))
    assert receipt.sizes == {"train": 95, "validation": 5, "test": 21}
    assert receipt.split == "by file"
    assert {conversation.place.file for conversation in splits.test} == {str(tmp_path / "d" / "test.json")}
    leaked = any(conversation.id == "train.json:1" for conversation in splits.train)
    assert receipt.leaks["test"] == {"exact": int(leaked), "near": int(leaked)}
