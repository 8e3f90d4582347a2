"""The files of a folder are its parts, all of them or none."""

import gzip
from pathlib import Path

import pytest
from tests.data.files import JSON, LINES, ROWS, refusal, values, write

from heedful.config import DataConfig
from heedful.data import load_splits, sources
from heedful.reporter import Reporter


def test_the_files_of_a_folder_are_its_parts(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "valid.jsonl", "test.jsonl"):
        write(tmp_path / name, LINES)
    write(tmp_path / "README.md", "no rows")
    assert [source.part for source in sources.read(str(tmp_path))] == ["test", "train", "train", "validation"]


def test_a_folder_needs_one_train_file(tmp_path: Path) -> None:
    write(tmp_path / "test.json", JSON)
    assert "has no train file" in refusal(tmp_path)
    write(tmp_path / "train.json", JSON)
    write(tmp_path / "train.jsonl", LINES)
    assert "has train.json and train.jsonl, which are both train. Keep one" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["valid", "val", "validation", "dev"])
def test_validation_has_several_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train.json", JSON)
    write(tmp_path / f"{name}.json", JSON)
    assert {source.part for source in sources.read(str(tmp_path))} == {"train", "validation"}


def test_dev_is_validation_where_nothing_else_is(tmp_path: Path) -> None:
    for name in ("train", "validation", "dev"):
        write(tmp_path / f"{name}.json", JSON)
    read = sources.read(str(tmp_path))
    assert [(Path(source.name).name, source.part) for source in read] == [
        ("train.json", "train"),
        ("validation.json", "validation"),
    ]
    assert "dev.json" in (sources.unread(str(tmp_path)) or "")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["train-00000-of-00003.json", "train-00002-of-00003.json"], "lacks train-00001-of-00003.json: "),
        (["train-1-of-3.json", "train-3-of-3.json"], "lacks train-2-of-3.json: "),
        (["train-00001-of-00002.json.gz"], "holds 1 of 2 files that belong together, as train-00001-of-00002.json.gz"),
        (["train-1-of-3.json", "train-2-of-3.json"], "holds 2 of 3 files"),
        (["train.json", "test-0-of-2.json"], "lacks test-1-of-2.json: "),
    ],
)
def test_a_part_that_lacks_one_of_its_files_is_refused(tmp_path: Path, names: list[str], missing: str) -> None:
    for name in names:
        write(tmp_path / name, gzip.compress(JSON.encode()) if name.endswith("gz") else JSON)
    assert missing in refusal(tmp_path)


def test_numbered_files_may_begin_at_one(tmp_path: Path) -> None:
    for name in ("train-1-of-2.json", "train-2-of-2.json"):
        write(tmp_path / name, JSON)
    assert values(tmp_path) == ROWS * 2


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("train.json", "train_extra.jsonl", "more.csv.gz", ".hidden.json"):
        write(tmp_path / name, JSON)
    write(tmp_path / "README.md", "no rows")
    said: list[str] = []
    receipt = load_splits(DataConfig(path=str(tmp_path)), Reporter(said.append))[1]
    told = f'Not read, as their names are those of no part: "more.csv.gz" and "train_extra.jsonl" of {tmp_path}.'
    assert receipt.file_notes == (told,)
    assert said.count(told) == 1
    (tmp_path / "more.csv.gz").unlink()
    assert "more.csv.gz" not in load_splits(DataConfig(path=str(tmp_path)))[1].file_notes[0]  # nor of what was kept


def test_a_folder_in_a_files_place_is_told_as_one(tmp_path: Path) -> None:
    """As Spark writes it; what the sentence says to do is read."""
    (tmp_path / "train.jsonl").mkdir()
    part = write(tmp_path / "train.jsonl/part-00000", LINES)
    fix = "Put its files beside it, as train-1.jsonl, train-2.jsonl and so on, and remove it."
    assert refusal(tmp_path).endswith(f"train.jsonl is a folder, where a file should be. {fix}")
    part.rename(tmp_path / "train-1.jsonl")
    (tmp_path / "train.jsonl").rmdir()
    assert values(tmp_path) == ROWS
