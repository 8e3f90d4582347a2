"""Every kind of file gives the same rows with their places; every broken one gives one sentence with its place."""

import gzip
import importlib.metadata
import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from tests.data.files import CSV, JSON, LINES, ROWS, refusal, values, write

from heedful.config import DataConfig
from heedful.data import load_splits, sources
from heedful.errors import DataError

DEEP = "[" * 100_000


THRICE = gzip.compress(gzip.compress(gzip.compress(b"[]", mtime=0), mtime=0), mtime=0)


TEXTS = {"json": JSON, "jsonl": LINES, "ndjson": LINES, "csv": CSV}


@pytest.mark.parametrize("ending", TEXTS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_each_text_format_gives_the_same_rows(
    tmp_path: Path, ending: str, mark: bytes, newline: str, packed: bool
) -> None:
    data = mark + TEXTS[ending].replace("\n", newline).encode()
    path = write(tmp_path / f"d.{ending}{'.gz' if packed else ''}", gzip.compress(data) if packed else data)
    assert values(path) == ROWS


@pytest.mark.parametrize("ending", ["json", "csv", "jsonl.gz"])
def test_gzip_is_known_by_its_bytes(tmp_path: Path, ending: str) -> None:
    data = gzip.compress(TEXTS[ending.removesuffix(".gz")].encode())
    assert values(write(tmp_path / f"d.{ending}", gzip.compress(data) if ending.endswith("gz") else data)) == ROWS


def test_an_ending_may_be_in_capitals(tmp_path: Path) -> None:
    assert values(write(tmp_path / "D.CSV", CSV)) == ROWS
    assert values(write(tmp_path / "D.JSON.GZ", gzip.compress(JSON.encode()))) == ROWS


@pytest.mark.parametrize("packed", [False, True])
def test_parquet_gives_the_same_rows(tmp_path: Path, packed: bool) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    path = tmp_path / "d.parquet"
    if packed:
        path = write(tmp_path / "e.parquet.gz", gzip.compress(path.read_bytes()))
    assert values(path) == ROWS


def test_what_json_cannot_hold_becomes_text_in_parquet_or_nothing(tmp_path: Path) -> None:
    time = pyarrow.array([0], pyarrow.timestamp("s"))
    table = pyarrow.table({"a": [float("nan")], "b": ["é".encode()], "c": [b"\xff\xd8"], "d": time})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    found = {"a": None, "b": "é", "c": {"bytes": 2}, "d": "1970-01-01 00:00:00"}
    assert values(tmp_path / "d.parquet") == [found]


def test_bytes_that_are_no_text_spoil_only_a_row_that_needs_them(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([{**row, "picture": b"\xff", "output": b"\xff"} for row in ROWS])
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match='field "output" is an object, not text'):
        load_splits(DataConfig(path=str(tmp_path / "d.parquet")))
    pyarrow.parquet.write_table(
        table.drop_columns("output").append_column("output", [["a"] * 4]), tmp_path / "d.parquet"
    )
    assert load_splits(DataConfig(path=str(tmp_path / "d.parquet")))[1].kept == 4


def test_the_index_that_pandas_writes_is_a_column_that_is_not_read(tmp_path: Path) -> None:
    lines = CSV.splitlines()
    indexed = "\n".join(f"{number or ''},{line}" for number, line in enumerate(lines))
    receipt = load_splits(DataConfig(path=str(write(tmp_path / "d.csv", indexed))))[1]
    assert (receipt.kept, receipt.not_read) == (4, ("(no name)",))


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 3, names=["instruction", "output", "output"])
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    assert refusal(tmp_path / "d.parquet") == 'd.parquet: two columns have the name "output". Rename one of them.'


def test_what_pyarrow_says_of_a_broken_file_is_a_whole_sentence(tmp_path: Path) -> None:
    told = refusal(write(tmp_path / "d.parquet", b"PAR1 no"))
    assert told.startswith("d.parquet is not a whole Parquet file: ")
    assert told.endswith("). The file may be cut off: get it again.")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(sys, "executable", "/a b/python")
    told = refusal(write(tmp_path / "d.parquet", b"PAR1"))
    assert told == "Reading d.parquet needs pyarrow. Run '/a b/python' -m pip install 'datasets>=4' 'pyarrow>=20'."

    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)  # as of sources that were never installed
    assert refusal(tmp_path / "d.parquet").endswith(
        "Run '/a b/python' -m pip install -e '.[data]' in your clone of heedful."
    )


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("d.json", '[{"a": 1},\n\n {"a":\n 2}, {"a": 3}]', [(1, 1), (2, 3), (3, 4)]),
        ("d.jsonl", '\n{"a": 1}\n\n{"a": 2}\n', [(1, 2), (2, 4)]),
        ("d.csv", 'a,b\n1,"x\ny"\n\n2,z\n', [(1, 2), (2, 5)]),
    ],
)
def test_each_row_knows_its_number_and_its_line(
    tmp_path: Path, name: str, content: str, places: list[tuple[int, int]]
) -> None:
    rows = sources.read(str(write(tmp_path / name, content)))[0].rows
    assert [(row.place.row, row.place.line) for row in rows] == places
    assert not any(row.problem for row in rows)


def test_lines_in_a_json_file_are_read_as_lines(tmp_path: Path) -> None:
    assert values(write(tmp_path / "d.json", LINES)) == ROWS


@pytest.mark.parametrize("content", [JSON, "\ufeff\n" + JSON, "\n\n".join(json.dumps(row, indent=2) for row in ROWS)])
def test_an_array_or_indented_objects_are_read_in_a_file_of_lines(tmp_path: Path, content: str) -> None:
    assert values(write(tmp_path / "d.jsonl", content)) == ROWS
    assert values(write(tmp_path / "d.json", content)) == ROWS


def test_indented_objects_have_their_places(tmp_path: Path) -> None:
    rows = sources.read(str(write(tmp_path / "d.jsonl", '{\n"a": 1}\n\n{"a":\n NaN}')))[0].rows
    assert [(row.place.line, row.problem) for row in rows] == [(1, ""), (4, "NaN is not a JSON value")]
    assert refusal(write(tmp_path / "d.jsonl", '{\n"a" 1}')).startswith("d.jsonl:2:5: not JSON: expecting ':'")


def test_a_line_separator_inside_a_text_is_not_a_line(tmp_path: Path) -> None:
    assert values(write(tmp_path / "d.jsonl", '{"a": "x\u2028y\u0085z"}\n')) == [{"a": "x\u2028y\u0085z"}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.json", "", "d.json is empty."),
        ("d.json", " \n", "d.json is empty."),
        ("d.json", '[{"a": 1},\n {"a" 2}]', "d.json:2:7: not JSON: expecting ':' delimiter, in row 2."),
        ("d.json", '[{"a": 1},\n {"a": 2,}]', "d.json:2:"),
        ("d.json", '[{"a": 1},\n]', "d.json:1:10: a comma stands before the closing ]. Remove the comma."),
        ("d.json", '[{"a": 1}\n {"a": 2}]', "d.json:2:2: a comma or ] should follow row 1."),
        ("d.json", '[{"a": 1},\n {"a": "tw', "d.json:2:8: the text ends inside a row"),
        ("d.json", '[{"a": 1},\n {"a"', "d.json:2:6: the text ends inside a row"),
        ("d.json", '[{"a": 1},\n', "d.json:2:1: the text ends inside a row"),
        ("d.json", '[{"a": 1}', "d.json:1:10: the file ends after row 1 without the closing ]"),
        ("d.json", "[{}] []", "d.json:1:6: there is more after the end of the array."),
        ("d.json", '\n{"data": [{"a": 1}], "n": 1}', 'd.json:2:1: an object, not an array of rows; its "data" holds'),
        ("d.json", '{"instruction": "a"}', "d.json:1:1: an object, not an array of rows. Put [ before"),
        ("d.json", '{"messages": [{}], "tools": [{}]}', "d.json:1:1: an object, not an array of rows. Put [ before"),
        ("d.json", '{"prompt": [{}], "completion": [{}]}', "d.json:1:1: an object, not an array of rows. Put [ before"),
        (
            "d.json",
            '{"train": [{"a": "b"}], "test": [{"a": "b"}], "n": 2}',
            'd.json:1:1: an object, not an array of rows; its "train" and "test" hold lists. Save what each',
        ),
        (
            "d.json",
            '{"0": {"a": "b"}, "1": {"a": "c"}}',
            "d.json:1:1: an object, not an array of rows; it holds 2 by name. Save them without the names: [",
        ),
        (
            "d.json",
            '{"a": {"0": "b", "1": "c"}, "d": {"0": "e"}}',
            "d.json:1:1: an object of columns, not an array of rows. Save the rows: in pandas, to_json(orient",
        ),
        (
            "d.json",
            '{"instruction": {"0": "a", "1": "b"}, "output": {"0": "c", "1": "d"}}',
            "d.json:1:1: an object of columns, not an array of rows. Save the rows: in pandas, to_json(orient",
        ),
        ("d.json", '{"instruction": ["a"], "output": ["b"]}', "d.json:1:1: an object of columns, not an array"),
        ("d.json", '{"a": ["b"], "c": ["d"]}', "d.json:1:1: an object of columns, not an array of rows. Save the rows"),
        ("d.json", "{}", "d.json:1:1: an object, not an array of rows. Rows stand in an array: [{...}, {...}]."),
        (
            "d.json",
            '{"error": "Repository not found"}',
            'd.json:1:1: an object, not an array of rows; it has "error". Rows stand in an array: [{...}, {...}].',
        ),
        ("d.json", "<!DOCTYPE html>", "d.json is a web page, not rows. Give the address of the raw file"),
        ("d.csv", "\ufeff\n<!-- x -->\n<HTML><body>a,b</body>", "d.csv is a web page, not rows."),
        ("d.parquet", "<?xml version='1.0'?><!DOCTYPE html><html>", "d.parquet is a web page, not rows."),
        ("d.jsonl.gz", gzip.compress(b"<!doctype html><title>Sign in", mtime=0), "d.jsonl.gz is a web page, not rows."),
        ("d.json", "<rows>", "d.json:1:1: not an array of rows."),
        ("d.json", "3", "d.json:1:1: not an array of rows."),
        ("d.json", DEEP, "d.json:1:2: the row is nested too deep, in row 1."),
        ("d.json", '[\n{"a": ' + DEEP, "d.json:2:1: the row is nested too deep, in row 1."),
        ("d.json", b'[{"a":\n "\xff"}]', "d.json:2:3: byte 0xff at offset 9 is not UTF-8. Save the file as UTF-8."),
        ("d.json", b'\xef\xbb\xbf[{"a":\n "\xff"}]', "d.json:2:3: byte 0xff at offset 12 is not UTF-8."),
        ("d.json", b"\xc3", "d.json:1:1: byte 0xc3 at offset 0 is not UTF-8. Save the file as UTF-8."),
        ("d.json", "[1]".encode("utf-16"), "d.json:1:1: it is in UTF-16. Save the file as UTF-8."),
        ("d.json.gz", b"[]", "d.json.gz is not gzip, whatever its name says. Take .gz off the name"),
        ("d.json.gz", b"", "d.json.gz is empty."),
        (
            "d.json",
            THRICE,
            "d.json is gzip within gzip, more than 2 times.",
        ),
        ("d.json", gzip.compress(JSON.encode(), mtime=0)[:-9], "d.json is not a whole gzip file"),
        ("d.json.gz", gzip.compress(JSON.encode(), mtime=0)[:-9], "d.json.gz is not a whole gzip file"),
        ("d.json.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "d.json.gz is not a whole gzip file"),
        ("d.csv", "a,a\n1,2\n", 'd.csv:1: two columns have the name "a".'),
        ("d.csv", "\na,b,\n1,2,3\n", "d.csv:2: column 3 of the header has no name."),
        ("d.csv", 'a,b\n1,"2\n', "d.csv:2: not CSV: the row that begins here has a quote that is not closed"),
        ("d.csv", 'a,b\n1,"2\n' + "3,4\n" * 50, "d.csv:2: not CSV: the row that begins here has a quote that is"),
        ("d.csv", 'a,b\n1,2\n3,"4\n5,"6"\n', "d.csv:3: not CSV: the row that begins here has a quote that is"),
        ("d.csv", '\n"a,b\n1,2\n', "d.csv:2: not CSV: the row that begins here has a quote that is not closed"),
        ("d.csv", 'a,b\n1,"2"3\n', "d.csv:2: not CSV: ',' expected after '\"'. Check the quotes."),
        ("d.xlsx", b"PK", "d.xlsx is of a file type that cannot be read. heedful reads .json, .jsonl,"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    assert refusal(write(tmp_path / name, content)).startswith(said)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"a": NaN}', "NaN is not a JSON value"),
        ('{"a": [-Infinity, Infinity]}', "-Infinity is not a JSON value; Infinity is not a JSON value"),
        ('{"a": 1, "a": 2}', 'the key "a" stands twice'),
        ('{"a": "\\ud83d"}', "half of a surrogate pair, as in \\ud83d, is not a character"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": ' + "1" * 5000 + "}", "a number is too long"),
        ('{"a": "\\ud83d\\ude00"}', ""),
    ],
)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_what_python_takes_and_json_forbids_is_the_rows_problem(
    tmp_path: Path, ending: str, row: str, problem: str
) -> None:
    content = f'[{{"a": 0}},\n{row},\n{{}}]' if ending == "json" else f'{{"a": 0}}\n{row}\n{{}}\n'
    first, second, third = sources.read(str(write(tmp_path / f"d.{ending}", content)))[0].rows
    assert (first.problem, second.problem, third.problem) == ("", problem, "")
    assert second.place.line == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a" 1}', "column 6: not JSON: expecting ':' delimiter"),
        ('{"a": "x', "column 7: the text ends inside a row (unterminated string starting at)"),
        ('{"a": 1} {"a": 2}', "column 10: there is more after the row's end"),
        (DEEP, "column 1: the row is nested too deep"),
    ],
)
def test_a_broken_line_spoils_only_its_row(tmp_path: Path, line: str, problem: str) -> None:
    rows = sources.read(str(write(tmp_path / "d.jsonl", f'{{"a": 0}}\n{line}\n{{"a": 3}}\n')))[0].rows
    assert [row.problem for row in rows] == ["", problem, ""]
    assert rows[2].value == {"a": 3}
