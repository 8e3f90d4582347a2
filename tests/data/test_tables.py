"""Text tables: what parts their cells, and rows with too few or too many."""

import gzip
from pathlib import Path

import pytest
from tests.data.files import values, write

from heedful.config import DataConfig
from heedful.data import load_splits, sources
from heedful.reporter import Reporter


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    assert values(write(tmp_path / "d.csv", "a,b\n" + "x" * 5_000_000 + ",y\n")) == [{"a": "x" * 5_000_000, "b": "y"}]


def test_a_csv_row_with_too_few_or_too_many_cells_is_a_bad_row(tmp_path: Path) -> None:
    """Too many, as where a comma is not quoted: what stands behind it would be lost."""
    rows = sources.read(str(write(tmp_path / "d.csv", "a,b\n1\n2,3\n4,5, 6\n")))[0].rows
    assert [row.problem for row in rows] == [
        "the row has 1 cells, the header 2",
        "",
        "the row has 3 cells, the header 2",
    ]


@pytest.mark.parametrize(("sign", "called"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.csv.gz"])
def test_the_header_shows_what_parts_cells(tmp_path: Path, sign: str, called: str, name: str) -> None:
    """Excel writes semicolons where a comma stands in decimals, and tabs where it saves text."""
    rows = [f'Say "{number}, or {number};{number}\t|".' for number in range(20)]
    quoted = [f"{sign}".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in (row, "Well\nsaid")) for row in rows]
    content = "\n".join([f"question{sign}answer", *quoted, ""]).encode("utf-8-sig")
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert values(path) == [{"question": row, "answer": "Well\nsaid"} for row in rows]

    said: list[str] = []
    told = f"The cells of {path} are parted by {called}, as its header shows."
    usual = (name, sign) == ("d.tsv", "\t")
    for _ in range(2):  # read, and remembered
        assert (told in load_splits(DataConfig(path=str(path)), Reporter(said.append))[1].file_notes) is not usual
    assert said.count(told) == 2 * (not usual)


@pytest.mark.parametrize("header", ["question", '"question; and | what"', '"question, long"'])
def test_a_lone_column_is_one(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "d.csv", f"{header}\nRed; or green\tand | blue?\n")
    assert values(path) == [{header.strip('"'): "Red; or green\tand | blue?"}]
    assert sources.read(str(path))[0].note == ""
