"""The bytes of one file -> its rows, one by one, each with its place and with what is wrong with it as JSON or CSV.

A fault inside one row (a doubled key, NaN, a broken line of JSON Lines) is that row's `problem`: the row may be
skipped. A fault after which no row's end can be found again is a DataError with file, line and column.
No reader holds more of a file than a window, a line or a batch of rows.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NoReturn

from heedful.data.cells import TABLES, column_names, delimiter, refuse_doubled, table
from heedful.data.json_text import GET_AGAIN, WINDOW, Decoder, JsonText, blank, broken, lower
from heedful.data.misplaced import not_rows
from heedful.data.unpack import Open, unpacked
from heedful.errors import DataError, install_extra, reason_of
from heedful.records import Place

BATCH = 2048  # rows of a Parquet file read at once


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in its file."""

    value: Any
    place: Place
    problem: str = ""


def file_type(name: str) -> tuple[str, bool]:
    """Return a file name's ending and whether .gz follows it: ("json", True) for data.JSON.gz."""
    path = PurePosixPath(name.lower())
    packed = path.suffix == ".gz"
    return (path.with_suffix("") if packed else path).suffix.lstrip("."), packed


def read_rows(opened: Open, name: str, ending: str, packed: bool) -> Iterator[RawRow]:
    """Read all rows of a file; `ending` is one of READERS, `packed` that its name promises gzip, `name` is what errors
    call the file."""
    try:
        yield from READERS[ending](unpacked(opened, name, packed), name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name} is not a whole gzip file: {lower(str(error))}.", GET_AGAIN) from error


def as_json(value: Any) -> Any:
    """Return what JSON can hold: dates and the like become their text, and so do bytes if they are UTF-8.

    NaN is how a table without null writes that nothing is there.
    """
    match value:
        case dict():
            return {str(key): as_json(inner) for key, inner in value.items()}
        case list() | tuple():
            return [as_json(inner) for inner in value]
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"bytes": len(value)}
        case None | str() | int():
            return value
    return str(value)


def _text(read: Callable[[Open, str], Iterator[RawRow]]) -> Callable[[Open, str], Iterator[RawRow]]:
    """Let a reader of text refuse an empty file, and bytes that are not UTF-8 with their place."""

    def rows(opened: Open, name: str) -> Iterator[RawRow]:
        try:
            _refuse_empty(opened, name)
            yield from read(opened, name)
        except UnicodeDecodeError as error:
            _stop_at_bad_byte(opened, name, error)

    return rows


def _refuse_empty(opened: Open, name: str) -> None:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with opened() as stream:
        while piece := stream.read(WINDOW):
            if decoder.decode(piece).strip():
                return
        decoder.decode(b"", final=True)
    raise DataError(f"{name} is empty.", "It should hold rows, each with an instruction and an output.")


def _stop_at_bad_byte(opened: Open, name: str, cause: UnicodeDecodeError) -> NoReturn:
    """Raise with the place of the first byte that is not UTF-8; a byte order mark has no column."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, column, end = 1, 1, 0
    with opened() as stream:
        while True:
            piece = stream.readline(WINDOW)
            end += len(piece)
            try:
                column += len(decoder.decode(piece, final=not piece))
            except UnicodeDecodeError as bad:  # its object is the piece, and before it the bytes that waited for more
                column += len(bad.object[: bad.start].decode())
                at, byte = end - len(bad.object) + bad.start, bad.object[bad.start]
                problem = f"byte 0x{byte:02x} at offset {at} is not UTF-8"
                if at == 0 and bad.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                    problem = "it is in UTF-16"
                raise DataError(f"{name}:{line}:{column}: {problem}.", "Save the file as UTF-8.") from cause
            if piece.endswith(b"\n"):
                line, column = line + 1, 1
            if not piece:  # the file was mended meanwhile
                raise cause


def _read_json(opened: Open, name: str) -> Iterator[RawRow]:
    """Read an array of rows, or rows line by line if that is what a .json file holds."""
    with opened() as stream:
        text = JsonText(stream, name)
        start = text.blank(0)
        if text.at(start) == "[":
            yield from _array(text, start)
            return
        if text.at(start) != "{":
            text.stop(start, "not an array of rows", "Rows stand in an array: [{...}, {...}].")
        value, end, _ = text.value(start)
        if not text.at(text.blank(end)):
            text.stop(start, *not_rows(value))
    yield from _read_many(opened, name)


def _read_many(opened: Open, name: str) -> Iterator[RawRow]:
    """Read rows line by line, unless the file, whatever its name, holds an array or objects over several lines."""
    with opened() as stream:
        text = JsonText(stream, name)
        start = text.blank(0)
        after = text.blank(start + 1)
        if text.at(start) == "[":
            yield from _array(text, start)
            return
        if text.at(start) == "{" and "\n" in text.text[start:after]:
            yield from _objects(text, start)
            return
    yield from _read_lines(opened, name)


def _objects(text: JsonText, at: int) -> Iterator[RawRow]:
    """Read indented objects that stand one after the other, as `jq` writes them: the first line is a brace alone."""
    row = 0
    while text.at(at):
        row, line = row + 1, text.line_of(at)
        value, end, problem = text.value(at, f", in row {row}")
        yield RawRow(value, Place(text.name, row, line), problem)
        at = text.forget(text.blank(end))


def _array(text: JsonText, start: int) -> Iterator[RawRow]:
    row, at = 0, text.blank(start + 1)
    more = text.at(at) != "]"
    while more:
        row, line = row + 1, text.line_of(at)
        value, end, problem = text.value(at, f", in row {row}")
        yield RawRow(value, Place(text.name, row, line), problem)
        at, more = _separator(text, text.blank(end), row)
        at = text.forget(at)
    if text.at(rest := text.blank(at + 1)):
        text.stop(rest, "there is more after the end of the array", "Keep one array in the file.")


def _separator(text: JsonText, at: int, row: int) -> tuple[int, bool]:
    """Step over the comma after a row: where the next row or the bracket stands, and whether a row follows."""
    mark = text.at(at)
    if not mark:
        text.stop(at, f"the file ends after row {row} without the closing ]", GET_AGAIN)
    if mark not in ",]":
        text.stop(at, f"a comma or ] should follow row {row}", "Put it there.")
    if mark == "]":
        return at, False
    following = text.blank(at + 1)
    if text.at(following) == "]":
        text.stop(at, "a comma stands before the closing ]", "Remove the comma.")
    return following, True


def _read_lines(opened: Open, name: str) -> Iterator[RawRow]:
    """Read one JSON value a line; a broken line is its own row's problem."""
    decoder, row = Decoder(), 0
    with opened() as stream:
        for line, packed in enumerate(stream, 1):  # lines of bytes end at \n alone: U+2028 may stand inside a text
            content = packed.decode("utf-8-sig" if line == 1 else "utf-8").strip(" \t\r\n")
            if not content:
                continue
            row += 1
            try:
                value, end, problem = decoder.decode(content, 0)
                if end < len(content):
                    problem = f"column {blank(content, end) + 1}: there is more after the row's end"
            except (ValueError, RecursionError) as error:
                where, what, _ = broken(error, content, 0)
                value, problem = None, f"column {where + 1}: {what}"
            yield RawRow(value, Place(name, row, line), problem)


def _read_csv(opened: Open, name: str, usual: str) -> Iterator[RawRow]:
    """Read the cells of a table below a line of column names."""
    sign = delimiter(opened, usual)
    with table(opened) as text:
        reader = csv.reader(text, delimiter=sign, strict=True)
        header: list[str] = []
        row, line = 0, 1  # where the next row begins
        try:
            for cells in reader:
                if cells and not header:
                    header = column_names(cells, f"{name}:{reader.line_num}")
                elif cells:
                    row += 1
                    fits = len(cells) == len(header)
                    problem = "" if fits else f"the row has {len(cells)} cells, the header {len(header)}"
                    yield RawRow(dict(zip(header, cells, strict=False)), Place(name, row, line), problem)
                line = reader.line_num + 1
        except csv.Error as error:
            problem = str(error)
            if reader.line_num > line or "end of data" in problem:  # csv went on to where its reading fails
                problem = "the row that begins here has a quote that is not closed, or not doubled within a cell"
            raise DataError(f"{name}:{line}: not CSV: {problem}.", "Check the quotes.") from error


def _read_parquet(opened: Open, name: str) -> Iterator[RawRow]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"Reading {name} needs pyarrow.", install_extra("data")) from error
    row = 0
    with opened() as stream:
        try:
            file = parquet.ParquetFile(stream)
            refuse_doubled(file.schema_arrow.names, name)
            for batch in file.iter_batches(BATCH):
                for value in batch.to_pylist():
                    row += 1
                    yield RawRow(as_json(value), Place(name, row))
        except (arrow.ArrowException, OSError, ValueError) as error:
            if isinstance(error, gzip.BadGzipFile):
                raise
            raise DataError(f"{name} is not a whole Parquet file: {reason_of(error)}.", GET_AGAIN) from error


READERS: dict[str, Callable[[Open, str], Iterator[RawRow]]] = {
    "json": _text(_read_json),
    "jsonl": _text(_read_many),
    "ndjson": _text(_read_many),
    **{ending: _text(partial(_read_csv, usual=sign)) for ending, sign in TABLES.items()},
    "parquet": _read_parquet,
}
