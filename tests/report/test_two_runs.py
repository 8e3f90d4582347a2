"""What `heedful compare` shows of two runs: answers to the same question, names, a verdict or why there is none."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.report.runs import evaluation, finished_run, responses, scored

from heedful.errors import RunError
from heedful.evaluate.rows import write_rows
from heedful.evaluate.summary import compare_runs
from heedful.report import tables
from heedful.report.answers import side_by_side
from heedful.report.facts import Facts
from heedful.report.page import compare_page
from heedful.system.atomic import write_json


def unpacked(part: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(base64.b64decode(part["packed"])))["rows"]
    return rows


def test_answers_of_two_runs_stand_side_by_side_by_what_was_asked(tmp_path: Path) -> None:
    """A file that was edited or moved between two runs: places say nothing."""
    a, b = finished_run(tmp_path / "first", rows=3), finished_run(tmp_path / "second", rows=3)
    moved = responses(3)[1:]
    for place, row in enumerate(moved):
        row |= {"place": f"moved.json:{place}", "model_response": f"second run on: {row['instruction']}"}
    write_json(b.responses_file, moved)
    write_rows(b.scores_file, [scored(number, row) for number, row in enumerate(moved, 1)])
    part = side_by_side(Facts(a), Facts(b), ["A", "B"])
    assert [(row["question"][:11], row["answers"][1]) for row in unpacked(part)] == [
        ("Say word 1.", "second run on: Say word 1."),
        ("Say word 2.", "second run on: Say word 2."),
    ]


def test_runs_of_a_sweep_are_told_apart(tmp_path: Path) -> None:
    second = finished_run(tmp_path / "lr=1e-3" / "seed-123")
    found = evaluation(names=("a", "b")) | {"differences": {}}
    for name in ("lr=1e-4", "lr=1e-5"):
        page = compare_page(finished_run(tmp_path / name / "seed-123"), second, found)
        assert page == second.path / f"compare-{name.replace('=', '-')}-seed-123.html"
        assert f"<title>{name}/seed-123 and lr=1e-3/seed-123</title>" in page.read_text(encoding="utf-8")


def test_a_deciding_score_that_two_tokenizers_do_not_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluation(names=("first", "second")) | {"decides": "nll", "runs": ["first", "second"], "differences": {}}
    del found["paired"]["nll"]
    told = "second and first cannot be compared by NLL of the reference, which decides: their tokens differ."
    tables.show_comparison(found)
    assert told in capsys.readouterr().out
    page = compare_page(finished_run(tmp_path / "first"), finished_run(tmp_path / "second"), found)
    assert told in page.read_text(encoding="utf-8")


def test_one_row_is_told_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluation(1, names=("first", "second")) | {"runs": ["first", "second"], "differences": {}}
    found["checks"] = {part: found[part] for part in ("rows", "models", "paired")}
    page = compare_page(finished_run(tmp_path / "first"), finished_run(tmp_path / "second"), found)
    told = page.read_text(encoding="utf-8")
    assert "On the same 1 row," in told and "on 1 row." in told and not re.search(r"\b1 rows", told)
    tables.show_comparison(found)
    shown = capsys.readouterr().out
    assert "Scores on 1 row that both answered" in shown and not re.search(r"\b1 rows", shown)


def test_damaged_scores_are_told_with_the_command_that_writes_them_anew(tmp_path: Path) -> None:
    a, b = finished_run(tmp_path / "first", rows=3), finished_run(tmp_path / "second", rows=3)
    b.evaluation_file.write_text("{")
    with pytest.raises(RunError, match=rf"Cannot read {b.evaluation_file}: .* Run heedful evaluate {b.path} again\.$"):
        compare_runs(a, b)
