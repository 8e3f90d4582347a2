"""A file is read through a small window with the rows, places and errors of the whole; what was read is kept, and
never trusted where it is damaged."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.made_rows import questions

from heedful.config import DataConfig
from heedful.data import json_text, load_splits, readers, sources
from heedful.data.readers import read_rows
from heedful.errors import DataError
from heedful.reporter import Reporter
from heedful.system import items as items_on_disk
from heedful.system import store

FILES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def told(path: Path, ending: str, window: int) -> list[object]:
    """Read through a window of so many bytes: the rows, or the rows before an error and what it says."""
    found: list[object] = []
    before = json_text.WINDOW
    json_text.WINDOW = readers.WINDOW = window
    try:
        for row in read_rows(lambda: path.open("rb"), "d", ending, False):
            found.append(row)
    except DataError as error:
        found.append(str(error))
    finally:
        json_text.WINDOW = readers.WINDOW = before
    return found


pieces = st.sampled_from(
    [
        '{"a": "é"}',
        '{"a": 1.5e3}',
        '{"a": "\\ud83d\\ude00"}',
        '{"a": "\\ud83d"}',
        '{"a": NaN}',
        "12",
        "true",
        '"🙂"',
        "{}",
        *(
            "[",
            "]",
            "{\n",
            ",",
            ", ",
            "\n",
            "\r\n",
            " ",
            '{"a" 1}',
            '{"a": "x',
            '{"a": 1,}',
            "tru",
            "-",
            "\ufeff",
            '"\\u12',
        ),
    ]
)


@FILES
@given(
    parts=st.lists(pieces, max_size=12),
    mark=st.sampled_from([",", ",\n ", None]),
    window=st.integers(1, 40),
    cut=st.integers(0, 9),
)
def test_a_window_shows_what_the_whole_shows(
    tmp_path: Path, parts: list[str], mark: str | None, window: int, cut: int
) -> None:
    text = "[" + mark.join(parts) + "]" if mark else "".join(parts)
    path = tmp_path / "d.bin"
    path.write_bytes(text[: len(text) - cut].encode())
    for ending in ("json", "jsonl", "csv"):
        assert told(path, ending, window) == told(path, ending, 1 << 20)


def test_an_error_deep_in_a_file_has_its_place(tmp_path: Path) -> None:
    row = json.dumps({"instruction": "é" * 40, "output": "x"}, indent=1, ensure_ascii=False)
    many = 40_000  # four mebibytes: several windows
    path = tmp_path / "d.json"
    path.write_text("[" + ",\n".join([row] * many) + ',\n  {"instruction" 1}]', encoding="utf-8")
    with pytest.raises(DataError, match=rf"d\.json:{many * 4 + 1}:18: not JSON: .*, in row {many + 1}\."):
        sources.read(str(path))
    path.write_bytes(path.read_bytes().replace(b'{"instruction" 1}', b'{"instruction": "\xff"}'))
    at = path.read_bytes().index(b"\xff")
    with pytest.raises(DataError, match=rf"d\.json:{many * 4 + 1}:20: byte 0xff at offset {at} is not UTF-8"):
        sources.read(str(path))
    lines = tmp_path / "d.jsonl"
    lines.write_text("\n".join([json.dumps({"instruction": "a" * 90, "output": 3})] * many), encoding="utf-8")
    with pytest.raises(DataError, match=r"d\.jsonl:1 \(row 1\)"):
        load_splits(DataConfig(path=str(lines)))


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet", "json.gz"])
def test_every_format_gives_a_large_file_row_by_row(tmp_path: Path, ending: str) -> None:
    choose = random.Random(3)
    rows = [{"instruction": f"é{n} {choose.random()}", "output": "x" * (n % 70)} for n in range(9000)]
    path = tmp_path / f"d.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1000)
    elif ending == "csv":
        path.write_text("instruction,output\n" + "".join(f"{r['instruction']},{r['output']}\n" for r in rows))
    else:
        text = json.dumps(rows, ensure_ascii=False) if ending in ("json", "json.gz") else ""
        data = (text or "\n".join(map(json.dumps, rows))).encode()
        path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    (source,) = sources.read(str(path))
    assert [row.value for row in source.rows] == rows
    assert source.rows[8999].value == rows[-1]
    assert [source.rows[i].place.row for i in (10, 12, -1)] == [11, 13, 9000]


MEASURE = """
import resource, sys
from heedful.data import sources
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import itertools, json
from heedful.data.readers import READERS
rows = len(sources.read(sys.argv[1])[0].rows)
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"d.{ending}"
    row = json.dumps({"instruction": "a" * 5000, "output": "b"})
    with open(path, "w") as file:
        file.write("[" * (ending == "json"))
        for number in range(20_000):  # 100 MB
            file.write((",\n" if ending == "json" and number else "") + row + "\n" * (ending == "jsonl"))
        file.write("]" * (ending == "json"))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    rows, grown = map(int, done.stdout.split())
    assert rows == 20_000
    assert grown < 40  # MiB


def test_a_file_is_read_once_and_gives_the_same_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = questions(tmp_path / "d.json", 50)
    splits, receipt = load_splits(config)
    monkeypatch.setattr("heedful.data.curate._curate", None)
    monkeypatch.setattr("heedful.data.sources.read_rows", None)
    again, told_again = load_splits(config)
    assert (list(again.train), list(again.test)) == (list(splits.train), list(splits.test))
    assert told_again == receipt
    assert again.train[0].row == splits.train[0].row


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("kind", "file", "harm"),
    [
        ("rows", "rows.bin", damage),
        ("rows", "rows.npy", damage),
        ("rows", "lines.npy", Path.unlink),
        ("rows", "MANIFEST.json", lambda path: path.write_text("{")),
        ("splits", "train.npy", damage),
        ("splits", "MANIFEST.json", Path.unlink),
    ],
)
def test_what_is_damaged_is_made_again(
    home: Path, tmp_path: Path, kind: str, file: str, harm: Callable[[Path], object]
) -> None:
    config = questions(tmp_path / "d.json", 50)
    splits, receipt = load_splits(config)
    expected = list(splits.train)
    (folder,) = (path for path in (home / kind).iterdir() if path.is_dir())
    harm(folder / file)
    again, told_again = load_splits(config)
    assert list(again.train) == expected
    assert told_again == receipt
    assert store._whole(folder, hashed=True) is not None


def test_long_work_is_counted_and_a_used_cache_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("curate.MANY_ROWS", "near.EXACT_ROWS"):
        monkeypatch.setattr(f"heedful.data.{limit}", 50)
    for wait in ("SHORT", "BETWEEN_COUNTS"):
        monkeypatch.setattr(f"heedful.reporter.{wait}", -1)
    said: list[str] = []
    counted: list[tuple[str, int]] = []
    done: dict[str, list[int]] = {}

    @contextmanager
    def count(what: str, total: int) -> Iterator[Callable[[int], None]]:
        counted.append((what, total))
        yield done.setdefault(what, []).append

    for _ in range(2):
        load_splits(questions(tmp_path / "d.json", 60), Reporter(said.append, count))
    reading, checking, comparing = f"Reading {tmp_path / 'd.json'} (MiB)", "Checking rows", "Looking for rows alike"
    assert counted == [(reading, 1), (checking, 60), (comparing, 60)]
    assert set(done[reading]) == {0} and done[checking] == done[comparing] == list(range(1, 61))
    assert ["were read and checked before" in text for text in said] == [False, True, False]


def test_another_seed_or_content_is_another_thing(home: Path, tmp_path: Path) -> None:
    config = questions(tmp_path / "d.json", 50)
    first = list(load_splits(config)[0].test)
    assert list(load_splits(config.model_copy(update={"seed": 7}))[0].test) != first
    assert len(load_splits(questions(tmp_path / "d.json", 51))[0].train) == 51 - 5 - 3
    assert len(list((home / "rows").glob("*/"))) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "file" / "home"))
    assert len(load_splits(questions(tmp_path / "d.json", 20))[0].train) == 17


def test_items_are_read_in_pieces_and_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [bytes([n]) * (n % 40) for n in range(200)]
    with items_on_disk.Writer(tmp_path, "x") as out:
        for item in items:
            out.append(item)
    for width in (1, 30, 1 << 20):
        monkeypatch.setattr(items_on_disk, "READ", width)
        assert list(items_on_disk.Items(tmp_path, "x", bytes)) == items
    assert [items_on_disk.Items(tmp_path, "x", len)[n] for n in (-1, 0, 77)] == [39, 0, 37]
    assert np.load(tmp_path / "x.npy")[-1] == sum(map(len, items))
