"""What page and card tell of the rows, also where an earlier version wrote the receipt."""

from __future__ import annotations

from pathlib import Path

from tests.report.runs import finished_run

from heedful.report.page import write_pages
from heedful.report.receipt import data_lines
from heedful.system.atomic import read_json, write_json


def test_a_receipt_that_does_not_know_a_later_count_is_told_without_it(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    receipt = read_json(run.receipt_file)
    del receipt["encoding"]["unlearned"]
    write_json(run.receipt_file, receipt)
    page = write_pages(run).read_text(encoding="utf-8")
    assert "dropped as too long" in page and "weight 0" not in page
    assert "80 learned from" in (run.model / "README.md").read_text(encoding="utf-8")


def test_of_many_columns_that_are_not_read_some_are_named(tmp_path: Path) -> None:
    receipt = read_json(finished_run(tmp_path / "mine").receipt_file)["data"]
    columns = [f"c{i}" for i in range(5000)]
    assert dict(data_lines(receipt | {"not_read": columns}))["columns not read"].endswith('"c11" and 4,988 more')


def test_one_of_a_kind_is_told_as_one(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    receipt = read_json(run.receipt_file)
    receipt["encoding"] |= {"special_tokens_in_text": 1, "shared_beginnings": {"rows": 3, "beginnings": 1}}
    write_json(run.receipt_file, receipt)
    page = write_pages(run).read_text(encoding="utf-8")
    assert "1 row (encoded as plain text)" in page and "3 rows begin as others do for long (1 beginning)" in page
