"""Every kind of file gives the same rows with their places; every broken one gives one sentence with its place."""

import gzip
import hashlib
import http.server
import json
import os
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from heedful.config import DataConfig
from heedful.data import download, load_splits, sources
from heedful.data.readers import READERS
from heedful.errors import DataError, HeedfulError
from heedful.reporter import Reporter

ROWS = [{"instruction": f"Say {word}.", "input": "", "output": f"{word}!"} for word in ("één", "zwei", "三", "four")]
JSON = json.dumps(ROWS, ensure_ascii=False, indent=1)
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"
CSV = "instruction,input,output\n" + "".join(f"{r['instruction']},,{r['output']}\n" for r in ROWS)
DEEP = "[" * 100_000
THRICE = gzip.compress(gzip.compress(gzip.compress(b"[]", mtime=0), mtime=0), mtime=0)
TEXTS = {"json": JSON, "jsonl": LINES, "ndjson": LINES, "csv": CSV}


def values(path: Path | str) -> list[object]:
    return [row.value for source in sources.read(str(path)) for row in source.rows]


def refusal(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        sources.read(str(path))
    return str(caught.value).replace(str(path), path.name if isinstance(path, Path) else path)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = refusal(write(tmp_path / "d.parquet", b"PAR1"))
    assert told == "Reading d.parquet needs pyarrow. Run pip install -e '.[data]' in your clone of heedful."


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


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    assert values(write(tmp_path / "d.csv", "a,b\n" + "x" * 5_000_000 + ",y\n")) == [{"a": "x" * 5_000_000, "b": "y"}]


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
        ("d.json", "[1]".encode("utf-16"), "d.json:1:1: it is in UTF-16. Save the file as UTF-8."),
        ("d.json.gz", b"[]", "d.json.gz is not gzip, whatever its name says. Take .gz off the name"),
        ("d.json.gz", b"", "d.json.gz is empty."),
        (
            "d.json",
            THRICE,
            "d.json is gzip within gzip, more than 2 times.",
        ),
        ("d.json", gzip.compress(JSON.encode())[:-9], "d.json is not a whole gzip file"),
        ("d.json.gz", gzip.compress(JSON.encode())[:-9], "d.json.gz is not a whole gzip file"),
        ("d.csv", "a,a\n1,2\n", 'd.csv:1: two columns have the name "a".'),
        ("d.csv", "\na,b,\n1,2,3\n", "d.csv:2: column 3 of the header has no name."),
        ("d.csv", 'a,b\n1,"2\n', "d.csv:2: not CSV: unexpected end of data."),
        ("d.parquet", b"PAR1 no", "d.parquet is not a whole Parquet file"),
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


def test_a_csv_row_with_too_few_cells_is_a_bad_row(tmp_path: Path) -> None:
    rows = sources.read(str(write(tmp_path / "d.csv", "a,b\n1\n2,3\n")))[0].rows
    assert [row.problem for row in rows] == ["the row has 1 cells, the header 2", ""]


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "instructions.json", JSON)
    assert refusal(tmp_path / "instruction.json").endswith("Did you mean 'instructions.json'?")


def test_a_link_that_leads_nowhere_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone.json").symlink_to("there.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "org").mkdir()
    (tmp_path / "org/name").symlink_to("there")
    fix = "Mend the link, or give the file's own path."
    for name, to in (("gone.json", "there.json"), ("loop.json", "loop.json"), ("org/name", "there")):
        assert refusal(name) == f"{name} is a link to {to}, which leads nowhere. {fix}"


def test_what_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    said = "cannot be read more than once, which heedful needs. Save the data as a file first."
    assert refusal(tmp_path / "pipe.json") == f"pipe.json, which is a pipe or a device, {said}"
    assert refusal("-") == f"What comes through a pipe {said}"
    assert refusal("/dev/null").endswith(said)


def test_an_empty_name_does_not_mean_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.json", JSON)
    assert refusal("") == refusal(" ") == "The name of the data is empty. Give a file, a folder, an address or builtin."


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("file:///home/me/d.json", "Or give the file's path."),
        ("S3://bucket/d.json?key=x", "Or download the file and give its"),
    ],
)
def test_an_address_of_another_kind_is_refused(url: str, fix: str) -> None:
    assert f"is not an address heedful can read: use http:// or https://. {fix}" in refusal(url)
    with pytest.raises(DataError):
        sources.check_exists(url)


def test_the_case_of_a_scheme_does_not_matter(server: str) -> None:
    assert values(server.replace("http", "HTTP") + "/d.json") == values(server + "/d.json") == ROWS
    assert Served.asked == ["/d.json"]


@pytest.mark.parametrize("path", ["", "\0", "x" * 5000 + ".json", "http://[::1", "builtin:fr", "~nobody-at-all/x.json"])
def test_an_impossible_path_is_a_data_error(path: str) -> None:
    assert refusal(path)


@pytest.mark.parametrize(("path", "rows"), [("builtin", 1000), ("builtin:zh", 150)])
def test_the_rows_that_ship_are_read(path: str, rows: int) -> None:
    assert len(values(path)) >= rows


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
    assert receipt.notes[0] == told
    assert said.count(told) == 1
    (tmp_path / "more.csv.gz").unlink()
    assert "more.csv.gz" not in load_splits(DataConfig(path=str(tmp_path)))[1].notes[0]  # nor of what was kept


def test_a_folder_in_a_files_place_is_told_as_one(tmp_path: Path) -> None:
    """As Spark writes it; what the sentence says to do is read."""
    (tmp_path / "train.jsonl").mkdir()
    part = write(tmp_path / "train.jsonl/part-00000", LINES)
    fix = "Put its files beside it, as train-1.jsonl, train-2.jsonl and so on, and remove it."
    assert refusal(tmp_path).endswith(f"train.jsonl is a folder, where a file should be. {fix}")
    part.rename(tmp_path / "train-1.jsonl")
    (tmp_path / "train.jsonl").rmdir()
    assert values(tmp_path) == ROWS


class Served(http.server.BaseHTTPRequestHandler):
    asked: list[str]
    pages: dict[str, bytes]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(404 if self.path == "/absent.json" else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if self.path == "/login.csv" else "text/plain")
        self.end_headers()
        self.wfile.write(self.pages.get(self.path) or (LINES if self.path.startswith("/rows") else JSON).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Served.asked, Served.pages = [], {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/d.json", "/rows.jsonl", "/download?id=7", "/rows"])
def test_a_url_is_downloaded_once(server: str, path: str) -> None:
    assert values(server + path) == values(server + path) == ROWS
    assert Served.asked == [path]


def test_what_an_address_asks_for_is_kept_out_of_places_and_receipt(server: str) -> None:
    splits, receipt = load_splits(DataConfig(path=f"{server}/download?token=hunter2"))
    assert receipt.path == splits.train[0].place.file == f"{server}/download?..."


def test_a_damaged_download_is_fetched_again(server: str, tmp_path: Path) -> None:
    values(server + "/d.json")
    (kept,) = (tmp_path / "home" / "data").iterdir()
    write(kept, "[]")
    assert values(server + "/d.json") == ROWS
    assert len(Served.asked) == 2


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("/d.csv", b"<!DOCTYPE html><title>Sign in</title>", "a web page, not a file of rows. Give the address of the"),
        ("/login.csv", b"\n<script>sign_in()</script>", "a web page, not a file of rows."),
        ("/d.jsonl", b"\n", "an empty file."),
    ],
)
def test_what_cannot_be_rows_is_not_kept(server: str, tmp_path: Path, path: str, content: bytes, said: str) -> None:
    Served.pages = {path: content}
    assert refusal(server + path).startswith(f"{server}{path} gives {said}")
    assert not list((tmp_path / "home" / "data").iterdir())
    Served.pages = {path: CSV.encode() if path.endswith("csv") else b""}
    assert values(server + path) == ROWS


def test_a_file_that_begins_with_blanks_is_not_empty(server: str) -> None:
    Served.pages = {"/d.json": b" " * 5000 + JSON.encode()}
    assert values(server + "/d.json") == values(server + "/d.json") == ROWS
    assert len(Served.asked) == 1
    Served.pages = {"/e.json": b" " * 5000}
    assert "gives an empty file" in refusal(server + "/e.json")


@pytest.mark.parametrize("held", [None, "none"])
def test_certificates_that_cannot_be_read_are_no_disk_error(
    server: str, held: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    if held:
        (tmp_path / "own.pem").write_text(held)
    told = refusal(server + "/d.json")
    assert told.startswith("The certificates for https cannot be read: ")
    assert told.endswith("Set SSL_CERT_FILE to a file that holds some, or unset it.")


def test_a_web_page_that_was_kept_once_is_fetched_again(server: str, tmp_path: Path) -> None:
    values(server + "/d.json")
    (kept,) = (tmp_path / "home" / "data").iterdir()
    kept.unlink()
    page = b"<html>"
    write(kept.with_name(f"{kept.name.partition('-')[0]}-{hashlib.sha256(page).hexdigest()}"), page)
    assert values(server + "/d.json") == ROWS


def test_a_download_is_said_and_so_is_the_use_of_its_copy(server: str, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        sources.read(server + "/d.json", Reporter(said.append))
    (kept,) = (tmp_path / "home" / "data").iterdir()
    day = time.strftime("%Y-%m-%d")
    assert said == [
        f"Downloading {server}/d.json.",
        f"{server}/d.json was downloaded on {day}, and that copy is used; to fetch it anew, delete {kept}.",
    ]


def test_a_download_that_would_never_end_is_given_up(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.0)
    monkeypatch.setattr(download, "SLOWEST", 1 << 40)
    assert refusal(f"{server}/d.json").startswith(
        f"{server}/d.json sends less than {1 << 40} bytes a second. Try again"
    )


def test_what_a_killed_download_left_is_removed_by_the_next(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "data"
    folder.mkdir(parents=True)
    key = hashlib.sha256(f"{server}/d.json".encode()).hexdigest()[:16]
    names = (f".{key}.tmp-1", f".{key}.tmp-2", ".backup.tmp-1", f"{key}-notes.txt")
    old, new, foreign, notes = (write(folder / name, "[") for name in names)
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    values(server + "/d.json")
    assert not old.exists() and new.exists()
    assert foreign.exists() and notes.exists(), "they are not ours"


def test_an_error_status_and_too_large_a_file_are_data_errors(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(f"{server}/absent.json") == f"{server}/absent.json answers 404 Not Found. Check the address."
    monkeypatch.setattr(download, "MAX_DOWNLOAD", 10)
    assert f"{server}/d.json is larger than" in refusal(f"{server}/d.json")


def test_an_unreachable_host_is_a_data_error(server: str) -> None:
    assert refusal("http://127.0.0.1:9/d.json").startswith("Cannot reach 127.0.0.1:9: ")


@pytest.mark.parametrize(
    ("page", "raw"),
    [
        ("https://github.com/o/r/blob/main/a/d.json", "https://raw.githubusercontent.com/o/r/main/a/d.json"),
        ("https://github.com/o/r/blob/v1/d.json?raw=true#L3", "https://raw.githubusercontent.com/o/r/v1/d.json"),
        (
            "https://huggingface.co/datasets/o/r/blob/main/d.json",
            "https://huggingface.co/datasets/o/r/resolve/main/d.json",
        ),
        ("https://example.org/blob/d.json", "https://example.org/blob/d.json"),
    ],
)
def test_a_page_that_shows_a_file_leads_to_the_file(page: str, raw: str) -> None:
    assert download.raw_url(page) == raw


def hub(monkeypatch: pytest.MonkeyPatch, splits: dict[str, list[dict[str, str]]]) -> None:
    fake = types.ModuleType("datasets")
    fake.load_dataset = lambda name: splits  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)


def test_a_file_may_be_named_as_the_rows_that_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "builtin-extra.json", JSON)
    assert values("builtin-extra.json") == ROWS


def test_a_typing_error_in_a_path_is_no_id_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": ROWS})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows/news").mkdir(parents=True)
    with pytest.raises(DataError, match=r"There is no file or folder rows/new. Did you mean 'news'"):
        sources.read("rows/new")
    assert sources.read("rows/alpaca")[0].name == "rows/alpaca[train]"  # like nothing there: the hub's

    def unreadable(folder: Path) -> Iterator[Path]:
        raise PermissionError(folder)

    monkeypatch.setattr(Path, "iterdir", unreadable)
    assert sources.read("rows/new")[0].name == "rows/new[train]"


def test_a_hub_id_gives_its_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": ROWS, "test": ROWS[:1], "extra": []})
    found = sources.read("org/name")
    assert [(source.part, len(source.rows)) for source in found] == [("train", 4), ("test", 1)]
    assert str(found[1].rows[0].place) == "org/name[test] (row 1)"


def test_two_splits_of_a_hub_id_that_are_one_part_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": ROWS, "valid": ROWS[:1], "validation": ROWS[1:]})
    told = "The data set org/name has valid and validation, which are both validation. Save the rows you mean as files."
    assert refusal("org/name") == told


def test_a_hub_id_that_cannot_be_read_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train_sft": ROWS})
    assert "has no part train. It has train_sft" in refusal("org/name")
    sys.modules["datasets"].load_dataset = None  # type: ignore[attr-defined]
    assert refusal("org/name").startswith("Cannot read the data set org/name from the hub: ")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal("org/name").endswith("Run pip install -e '.[data]' in your clone of heedful.")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
texts = st.sampled_from(["a", "", " ", "\ud83d", "é"]) | json_values
turns = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "root"]), "content": texts}))
rows = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("instruction", "input", "output", "system", "history", "prompt", "completion"), texts)
    | {"messages": turns | json_values, "conversations": turns | json_values, "response": texts},
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ending=st.sampled_from([*READERS, "json.gz"]), data=st.binary(max_size=60))
@example("json", b'[{"a": \x00}]')
@example("csv", b"\x0b")
@example("csv", b"a\r1")
def test_arbitrary_bytes_raise_nothing_but_data_errors(tmp_path: Path, ending: str, data: bytes) -> None:
    try:
        sources.read(str(write(tmp_path / f"d.{ending}", data)))
    except DataError as error:
        assert error.problem  # noqa: PT017


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(rows | json_values, max_size=4), lines=st.booleans(), skip=st.booleans())
def test_arbitrary_json_is_accounted_for_or_refused(
    tmp_path: Path, content: list[object], lines: bool, skip: bool
) -> None:
    text = "\n".join(map(json.dumps, content)) if lines else json.dumps(content)
    path = write(tmp_path / ("d.jsonl" if lines else "d.json"), text)
    try:
        splits, receipt = load_splits(DataConfig(path=str(path), on_bad_row="skip" if skip else "error"))
    except HeedfulError as error:
        assert isinstance(error, DataError)  # noqa: PT017
    else:
        kept = [*splits.train, *splits.validation, *splits.test]
        assert receipt.read == len(kept) == len({conversation.id for conversation in kept})
