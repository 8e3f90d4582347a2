"""Names with bytes that are not UTF-8, which reach a program as halves of surrogate pairs: no file can hold them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import heedful
from heedful.cli import main
from heedful.errors import UsageError
from heedful.settings import dump_config, load_config


@pytest.mark.parametrize(
    "line",
    ["check a\udcff.json", "train rows.json --out a\udcff", "check rows.json --out a\udcff", "report a\udcff",
     "generate m --data rows.json --out a\udcff", "generate m --prompt a\udcff", "export r --to hf --out=a\udcff"],
)  # fmt: skip
def test_an_argument_is_refused_before_anything_is_made(
    line: str, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(rows_file, "rows.json")
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert (end.value.code, os.listdir()) == (2, ["rows.json"])
    assert "a\\udcff" in (told := capsys.readouterr().err) and "is not text: it holds bytes that are not UTF-8" in told


CALLS: dict[str, Callable[[str, Path], object]] = {
    "data": lambda name, rows: heedful.check(name),
    "a folder of data": lambda name, rows: heedful.check(Path(name).parent / "folder"),
    "model": lambda name, rows: heedful.check(rows, model=name),
    "out": lambda name, rows: heedful.train(rows, out=name),
    "run": lambda name, rows: heedful.evaluate(name),
    "run or model": lambda name, rows: heedful.load(name),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_name_is_refused_in_python_too(what: str, rows_file: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    shutil.copy(rows_file, tmp_path / "folder" / "train.a\udcff.json")
    with pytest.raises(UsageError, match="is not text"):
        CALLS[what](str(tmp_path / "a\udcff"), rows_file)
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_to_work_in_is_refused_where_a_run_would_write_it_down(
    rows_file: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a\udcff" / "runs" / "r").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a\udcff")
    Path("runs", "r", "config.yaml").write_text(dump_config(load_config(None)))
    for begin in (
        lambda: heedful.train(rows_file, model=tiny_folder),
        lambda: heedful.train(rows_file, model=tiny_folder, out=tmp_path / "new"),
        lambda: heedful.train(resume=True),
        lambda: heedful.evaluate("runs/r"),
    ):
        with pytest.raises(UsageError, match=r"The current folder .* is not text"):
            begin()
    assert [str(path) for path in Path().rglob("*")] == ["runs", "runs/r", "runs/r/config.yaml"]
    assert heedful.check(rows_file, model=tiny_folder).receipt["data"]["read"] == 80, "nothing is written here"
