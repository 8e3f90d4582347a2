"""Every row is accounted for, the parts are of the asked sizes, and what stands twice is found and kept together."""

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.config import DataConfig
from heedful.data import DataReceipt, load_splits, near, split
from heedful.data.split import Shares
from heedful.errors import DataError
from heedful.records import Splits
from heedful.reporter import Reporter

WORDS = [a + b for a in ("ba", "ke", "lo", "mi", "zu", "shra", "tem") for b in ("nd", "pling", "rgo", "sk", "wen", "x")]


def distinct(number: int, seed: int = 0) -> list[str]:
    choose = random.Random(seed)
    return [f"{index} " + " ".join(choose.choices(WORDS, k=9)) for index in range(number)]


def in_order(*arguments: Any, **named: Any) -> dict[str, list[int]]:
    return {name: part.tolist() for name, part in split.in_order(*arguments, **named).items()}


def leak_aware(*arguments: Any, **named: Any) -> dict[str, list[int]]:
    return {name: part.tolist() for name, part in split.leak_aware(*arguments, **named).items()}


def given_rows(path: Path, questions: list[str], **settings: object) -> tuple[Splits, DataReceipt]:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([{"instruction": text, "output": "yes"} for text in questions]))
    return load_splits(DataConfig.model_validate({"path": str(path), **settings}))


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


def talk(row: list[tuple[str, str]]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in row]}


def unrolled(talks: int, turns: int) -> list[list[tuple[str, str]]]:
    """Conversations, each stored as a row for every answer: [u1, a1], [u1, a1, u2, a2], ..."""
    texts = iter(distinct(2 * talks * turns))
    whole = [[(role, next(texts)) for _ in range(turns) for role in ("user", "assistant")] for _ in range(talks)]
    return [row[: 2 * answers] for row in whole for answers in range(1, turns + 1)]


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


def test_a_row_with_which_a_row_of_train_begins_leaks(tmp_path: Path) -> None:
    short, long, *_ = unrolled(2, 2)
    answered = [short[0], ("assistant", "No."), *long[2:]]  # begins with the same question, but another answer
    unlike = [("user", "Who?"), ("assistant", "Ann.")]
    (tmp_path / "test.json").write_text(json.dumps([talk(short), talk(unlike)]))
    for row, leaks in ((long, 1), (answered, 0)):
        (tmp_path / "train.json").write_text(json.dumps([talk(row)]))
        receipt = load_splits(DataConfig(path=str(tmp_path)))[1]
        assert receipt.leaks["test"] == {"exact": leaks, "near": 0}


@pytest.mark.parametrize(("before", "held_back"), [("a", 0), ("c", 10)])
def test_a_history_is_the_beginning_of_a_conversation_too(tmp_path: Path, before: str, held_back: int) -> None:
    rows = [
        {"instruction": "Go on.", "output": "b", "history": [["Who wrote it?", before]]},
        {"instruction": "Who wrote it?", "output": "a"},
    ]
    (tmp_path / "d.json").write_text(json.dumps(rows * 10))
    config = DataConfig(path=str(tmp_path / "d.json"), validation_share=0.0, test_share=0.5)
    assert load_splits(config)[1].sizes["test"] == held_back


def test_what_the_system_says_makes_no_two_questions_alike_or_unlike(tmp_path: Path) -> None:
    days = [f"You are a helpful assistant who answers in few words. Today is day {day}." for day in range(60)]
    rows = [{"system": day, "instruction": q, "output": "yes"} for day, q in zip(days, distinct(60), strict=True)]
    (tmp_path / "d.json").write_text(json.dumps([*rows, rows[7] | {"system": days[8]}]))
    receipt = load_splits(DataConfig(path=str(tmp_path / "d.json")))[1]
    assert (receipt.exact_duplicates, receipt.near_duplicates) == (1, 1)
    assert receipt.sizes == {"train": 52, "validation": 3, "test": 6}


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


def cosines(texts: list[str]) -> np.ndarray:
    """The definition, spelt out: one dense vector of 3-gram counts a text."""
    plain = [f" {' '.join(text.lower().split())} " for text in texts]
    grams = sorted({text[at : at + 3] for text in plain for at in range(len(text) - 2)})
    counts = np.array([[sum(t[i : i + 3] == g for i in range(len(t) - 2)) for g in grams] for t in plain], float)
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    return unit @ unit.T


def components(near_pairs: np.ndarray) -> list[set[int]]:
    reach = np.linalg.matrix_power(near_pairs.astype(float), len(near_pairs)) > 0
    return [set(np.flatnonzero(row)) for row in reach]


@settings(deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab é三\n"), min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=9)
)
def test_exact_search_is_the_definition(texts: list[str]) -> None:
    index, near_pairs = near.index_texts(texts), cosines(texts) >= 0.9 - 1e-9
    vectors = index.vectors[index.distinct]
    np.testing.assert_allclose((vectors @ vectors.T).toarray(), cosines(texts), atol=1e-12)
    labels, near_earlier = near.clusters(index)
    assert near_earlier.tolist() == [bool(near_pairs[row, :row].any()) for row in range(len(texts))]
    assert [set(np.flatnonzero(labels == label)) for label in labels] == components(near_pairs)
    half = len(texts) // 2
    rows, others = np.arange(half), np.arange(half, len(texts))
    assert near.near_any(index, rows, others).tolist() == near_pairs[:half, half:].any(axis=1).tolist()


def test_pairs_just_above_and_below_the_threshold_are_told_apart() -> None:
    texts = [" ".join([*text.split(), *WORDS[:extra]]) for text in distinct(150) for extra in (0, 1, 2, 3)]
    index = near.index_texts(texts)
    cosine = (index.vectors @ index.vectors.T).toarray()
    wanted = [bool((cosine[row, :row] >= 0.9).any()) for row in range(len(texts))]
    assert 20 < sum(wanted) < 500
    assert near.clusters(index)[1].tolist() == wanted


def test_the_same_text_on_both_sides_is_near_however_large_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = distinct(30) * 2
    for limit in (100, 1):
        monkeypatch.setattr(near, "EXACT_ROWS", limit)
        assert near.near_any(near.index_texts(texts), np.arange(30), np.arange(30, 60)).all()


def test_large_data_are_searched_by_buckets_with_nearly_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text + mark for text in distinct(400) for mark in ("", " indeed", "!")]
    exact = near.index_texts(texts)
    monkeypatch.setattr(near, "EXACT_ROWS", 100)
    fast = near.index_texts(texts)
    assert (exact.exact, fast.exact) == (True, False)
    wanted, found = near.clusters(exact)[1], near.clusters(fast)[1]
    assert not (found & ~wanted).any()
    assert found.sum() >= 0.98 * wanted.sum() > 700
    rows, others = np.arange(0, 1200, 3), np.setdiff1d(np.arange(1200), np.arange(0, 1200, 3))
    wanted, found = near.near_any(exact, rows, others), near.near_any(fast, rows, others)
    assert not (found & ~wanted).any()
    assert found.sum() >= 0.98 * wanted.sum() > 300


def test_rows_of_one_template_are_one_cluster() -> None:
    texts = [f"Please repeat the following number in words, slowly and with care: {number}" for number in range(3000)]
    labels, near_earlier = near.clusters(near.index_texts(texts))
    assert len(set(labels.tolist())) == 1
    assert near_earlier.sum() == 2999


def test_reading_data_imports_no_torch() -> None:
    check = "import heedful.data, sys; print({'torch', 'transformers', 'httpx2', 'pyarrow'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
