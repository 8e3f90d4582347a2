"""A file of three rows, of which none can be held back: what is said of it, and what is advised, is true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heedful import sweep
from heedful.errors import UsageError
from heedful.report.facts import Facts
from heedful.report.lines import progress
from heedful.system.atomic import read_json, write_json
from tests.evaluate.verbs import QUICK, said
from tests.report.runs import finished_run

ROWS = [{"instruction": f"Say {word}", "input": "", "output": word} for word in ("red", "blue", "green " * 40)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("train.json", "more.json"):
        (tmp_path / "data" / name).write_text(json.dumps(ROWS), encoding="utf-8")
    return tmp_path / "data"


def test_a_run_without_test_rows_says_so_and_how_it_is_scored(
    data: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"--set={leaf}={value}" for leaf, value in {**QUICK, "encode.max_tokens": 100}.items()]
    run = tmp_path / "run"
    code, told = said(["train", data, "--model", tiny_folder, "--out", run, *settings], capsys)
    notes = [
        'Not read, as their names are those of no part: "more.json"',
        "The validation part is empty: there will be no validation loss, and the last weights are kept.",
        "The test part is empty: there will be no final scores.",
        "Training rows truncated to at most 100 tokens: 1 in the answer, 1 in the instruction.",
    ]
    assert code == 0
    assert [told.count(note) for note in notes] == [1] * 4
    assert told.index(notes[-1]) < told.index("step 1/1")
    page = (run / "report.html").read_text(encoding="utf-8")
    command = f"heedful evaluate {run}"
    assert f"No test row was held back, so there are no scores; {command} --data FILE scores it on other rows." in page
    code, told = said(["evaluate", run], capsys)
    assert code == 3
    reason = "the rows are too few, or too much alike, to hold back 0.1 of them. Name some with --data.\n"
    assert told.endswith(f"{run} held no test rows back: {reason}")
    assert said(["evaluate", run, "--data", data / "more.json"], capsys)[0] == 0


def test_a_sweep_over_rows_that_are_too_few_says_that(data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"too few, .* to hold back 0\.1 of them\. Give test rows as a file, or more"):
        sweep.sweep(str(data), model=str(tiny_folder), vary=["train.lr=1e-4,2e-4"], out=tmp_path / "sweep")


@pytest.mark.parametrize(
    ("held", "left_out", "told"),
    [
        (40, 39, "There are no scores yet: heedful evaluate {} gives them."),
        (40, 40, "No test row can be scored, so there are no scores; heedful evaluate {} --data FILE scores it on"),
        (0, 0, "No test row was held back, so there are no scores; heedful evaluate {} --data FILE scores it on"),
    ],
)
def test_a_run_without_scores_is_told_a_command_that_gives_some(
    held: int, left_out: int, told: str, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "mine")
    run.evaluation_file.unlink()
    receipt = read_json(run.receipt_file)
    receipt["data"]["sizes"]["test"] = held
    receipt["encoding"]["not_scored"] = {"with a last answer of weight 0": ["rows.json:1"] * left_out}
    write_json(run.receipt_file, receipt)
    assert progress(Facts(run))["sentence"].startswith(told.format(run.path))
