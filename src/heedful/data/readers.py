"""The bytes of one file -> its rows, each with its place and with what is wrong with it as JSON or CSV.

A fault inside one row (a doubled key, NaN, a broken line of JSON Lines) is that row's `problem`: the row may be
skipped. A fault after which no row's end can be found again is a DataError with file, line and column.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from heedful.errors import DataError
from heedful.records import Place

GET_AGAIN = "The file may be cut off: get it again."


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in its file."""

    value: Any
    place: Place
    problem: str = ""


def file_type(name: str) -> tuple[str, bool]:
    """Give a file name's ending and whether .gz follows it: ("json", True) for data.JSON.gz."""
    path = PurePosixPath(name.lower())
    packed = path.suffix == ".gz"
    return (path.with_suffix("") if packed else path).suffix.lstrip("."), packed


def read_rows(data: bytes, name: str, ending: str, packed: bool) -> list[RawRow]:
    """Read all rows of a file; `ending` is one of READERS, `name` is what errors call the file."""
    return list(READERS[ending](_unpack(data, name) if packed else data, name))


def plain(value: Any) -> Any:
    """Give what JSON can hold: dates, bytes, pictures and the like become their text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _unpack(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} is not a whole gzip file: {_lower(str(error))}.", GET_AGAIN) from error


def _decode(data: bytes, name: str) -> str:
    """Decode UTF-8, with or without a byte order mark."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")  # the mark, if any, is already cut off
        offset = error.start + len(data) - len(error.object)
        problem = f"byte 0x{data[offset]:02x} at offset {offset} is not UTF-8"
        _stop(name, before, len(before), problem, "Save the file as UTF-8.", error)
    if not text or text.isspace():
        raise DataError(f"{name} is empty.", "It should hold rows, each with an instruction and an output.")
    return text


def _stop(name: str, text: str, at: int, problem: str, fix: str = "", cause: Exception | None = None) -> NoReturn:
    """Raise what is wrong at a position of the text."""
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    raise DataError(f"{name}:{line}:{column}: {problem}.", fix) from cause


class _Decoder:
    """JSON's own decoder, except that what JSON forbids and Python allows becomes a problem of the row."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._json = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=lambda word: self.problems.append(f"{word} is not a JSON value"),
            parse_int=self._int,
            parse_float=self._float,
        )

    def decode(self, text: str, start: int) -> tuple[Any, int, str]:
        """Decode one value: the value, where it ends, its problem. Raise ValueError or RecursionError."""
        self.problems.clear()
        value, end = self._json.raw_decode(text, start)
        if text.find("\\u", start, end) >= 0 and not _is_unicode(value):
            self.problems.append("half of a surrogate pair, as in \\ud83d, is not a character")
        return value, end, "; ".join(dict.fromkeys(self.problems))

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            self.problems.append(f'the key "{key}" stands twice')
        return value

    def _int(self, digits: str) -> int | None:
        try:
            return int(digits)
        except ValueError:  # Python reads 4,300 digits at most
            self.problems.append("a number is too long")
            return None

    def _float(self, digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            self.problems.append(f"the number {digits[:20]} is too large")
        return value


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken(error: ValueError | RecursionError, text: str, start: int) -> tuple[int, str, str]:
    """Say where a value breaks, why, and what to do."""
    if not isinstance(error, json.JSONDecodeError):
        return start, "the row is nested too deep", "A row should hold text, or a list of messages."
    before = text[: error.pos].rstrip()[-1:]
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return error.pos, f"the text ends inside a row ({_lower(error.msg)})", GET_AGAIN
    trailing = "trailing comma" in error.msg or (before == "," and text[error.pos] in "]}")  # from Python 3.13, before
    fix = "Remove the comma before the bracket." if trailing else ""
    return error.pos, f"not JSON: {_lower(error.msg)}", fix


def _read_json(data: bytes, name: str) -> Iterator[RawRow]:
    """Read an array of rows, or rows line by line if that is what a .json file holds."""
    text = _decode(data, name)
    start = _blank(text, 0)
    if text[start] == "{":
        _expect_lines(text, name, start)
        return _lines(text, name)
    if text[start] != "[":
        page = text[start] == "<"
        fix = "Give the address of the raw file." if page else "Rows stand in an array: [{...}, {...}]."
        _stop(name, text, start, "a web page, not JSON" if page else "not an array of rows", fix)
    return _array(text, name, start)


def _array(text: str, name: str, start: int) -> Iterator[RawRow]:
    decoder, row, line, counted = _Decoder(), 0, 1, 0
    at = _blank(text, start + 1)
    more = text[at : at + 1] != "]"
    while more:
        row, line, counted = row + 1, line + text.count("\n", counted, at), at
        try:
            value, end, problem = decoder.decode(text, at)
        except (ValueError, RecursionError) as error:
            where, what, fix = _broken(error, text, at)
            _stop(name, text, where, f"{what}, in row {row}", fix, error)
        yield RawRow(value, Place(name, row, line), problem)
        at, more = _separator(text, name, _blank(text, end), row)
    if (rest := _blank(text, at + 1)) < len(text):
        _stop(name, text, rest, "there is more after the end of the array", "Keep one array in the file.")


def _separator(text: str, name: str, at: int, row: int) -> tuple[int, bool]:
    """Step over the comma after a row: where the next row or the bracket stands, and whether a row follows."""
    mark = text[at : at + 1]
    if not mark:
        _stop(name, text, at, f"the file ends after row {row} without the closing ]", GET_AGAIN)
    if mark not in ",]":
        _stop(name, text, at, f"a comma or ] should follow row {row}", "Put it there.")
    following = _blank(text, at + 1)
    if mark == "," and text[following : following + 1] == "]":
        _stop(name, text, at, "a comma stands before the closing ]", "Remove the comma.")
    return (following, True) if mark == "," else (at, False)


def _expect_lines(text: str, name: str, start: int) -> None:
    """Raise unless a text that begins with an object goes on after it, as JSON Lines do."""
    try:
        value, end, _ = _Decoder().decode(text, start)
    except (ValueError, RecursionError) as error:
        where, what, fix = _broken(error, text, start)
        _stop(name, text, where, what, fix, error)
    if _blank(text, end) < len(text):
        return
    lists = [key for key, inner in value.items() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    if len(lists) == 1 and lists[0] not in ("messages", "conversations"):
        held, rows = lists[0], len(value[lists[0]])
        problem = f'an object, not an array of rows; its "{held}" holds a list of {rows}'
        _stop(name, text, start, problem, f'Save what "{held}" holds as a file of its own.')
    _stop(name, text, start, "an object, not an array of rows", "Put [ before it and ] after it.")


def _read_lines(data: bytes, name: str) -> Iterator[RawRow]:
    return _lines(_decode(data, name), name)


def _lines(text: str, name: str) -> Iterator[RawRow]:
    """Read one JSON value a line; a broken line is its own row's problem."""
    decoder, row = _Decoder(), 0
    for line, content in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand inside a text
        content = content.strip(" \t\r")
        if not content:
            continue
        row += 1
        try:
            value, end, problem = decoder.decode(content, 0)
            if end < len(content):
                problem = f"column {_blank(content, end) + 1}: there is more after the row's end"
        except (ValueError, RecursionError) as error:
            where, what, _ = _broken(error, content, 0)
            value, problem = None, f"column {where + 1}: {what}"
        yield RawRow(value, Place(name, row, line), problem)


def _read_csv(data: bytes, name: str) -> Iterator[RawRow]:
    """Read comma-separated cells below a line of column names."""
    reader = csv.reader(io.StringIO(_decode(data, name), newline=""), strict=True)
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell may be longer than 128 KiB
    try:
        header = next((cells for cells in reader if cells), [])
        if len(set(header)) < len(header) or not all(header):
            raise DataError(f"{name}:1: each column needs a name of its own.", f"The names are: {', '.join(header)}.")
        row, line = 0, reader.line_num + 1
        for cells in reader:
            row += bool(cells)
            fits = len(cells) == len(header)
            problem = "" if fits else f"the row has {len(cells)} cells, the header {len(header)}"
            if cells:
                yield RawRow(dict(zip(header, cells, strict=False)), Place(name, row, line), problem)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: not CSV: {error}.", "Check the quotes.") from error
    finally:
        csv.field_size_limit(limit)


def _read_parquet(data: bytes, name: str) -> Iterator[RawRow]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"Reading {name} needs pyarrow.", "Run pip install heedful[data].") from error
    try:
        values = parquet.read_table(arrow.BufferReader(data)).to_pylist()
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{name} is not a whole Parquet file: {str(error).partition(chr(10))[0]}", GET_AGAIN) from error
    for row, value in enumerate(values, 1):
        yield RawRow(plain(value), Place(name, row))


READERS: dict[str, Callable[[bytes, str], Iterator[RawRow]]] = {
    "json": _read_json,
    "jsonl": _read_lines,
    "ndjson": _read_lines,
    "csv": _read_csv,
    "parquet": _read_parquet,
}

_BLANK = re.compile(r"[ \t\r\n]*")


def _blank(text: str, at: int) -> int:
    """Skip JSON's white space."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
