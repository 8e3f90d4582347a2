"""The cache removes what nobody opened for long, and nothing that others made or use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from heedful import store
from heedful.data import load_splits
from tests.data.made_rows import questions


def test_what_nobody_opened_for_long_is_removed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_splits(questions(tmp_path / "d.json", 20))
    monkeypatch.setattr(store, "UNUSED_DAYS", -1)
    load_splits(questions(tmp_path / "e.json", 21))
    assert len(list((home / "rows").glob("*/"))) == 1


def test_what_another_process_opens_just_now_is_not_removed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_splits(questions(tmp_path / "d.json", 20))
    (opened,) = (home / "rows").glob("*/")
    monkeypatch.setattr(store, "UNUSED_DAYS", -1)
    with open(opened.with_suffix(".lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load_splits(questions(tmp_path / "e.json", 21))
    assert opened.is_dir()


@pytest.mark.parametrize("where", ["", "."])
def test_a_folder_of_somebody_else_is_never_removed(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the cache shares its folder with other things: an empty HEEDFUL_HOME means none."""
    monkeypatch.setenv("HEEDFUL_HOME", where)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    mine = [Path(kind, name) for kind in ("rows", "splits") for name in ("mine", "0123456789abcdef" * 2)]
    for folder in mine:
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("precious")
        os.utime(folder, (0, 0))
    load_splits(questions(tmp_path / "d.json", 20))
    assert [(folder / "notes.txt").read_text() for folder in mine] == ["precious"] * 4
    assert (tmp_path / "me").exists() == (not where)
