"""The cache removes what nobody opened for long, and nothing that others made or use."""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from tests.data.made_rows import questions

from heedful.data import load_splits
from heedful.errors import RunError
from heedful.model.catalogue import works_offline
from heedful.system import store


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


DENIED = PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root would be let in


def test_what_another_user_made_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(folder: Path) -> dict[str, str]:
        (folder / "content").write_text("theirs")
        return {}

    def closed(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if home in Path(path).parents and mode[0] in "aw":
            raise DENIED
        return real(path, mode, *arguments, **options)

    def fail(*arguments: object) -> None:
        raise DENIED

    made, real = store.kept("things", {}, make), open
    monkeypatch.setattr(builtins, "open", closed)
    monkeypatch.setattr(os, "access", lambda place, mode: mode == os.R_OK or Path(place) == home)
    monkeypatch.setattr(os, "utime", fail)
    assert store.kept("things", {}, lambda folder: {}) == made._replace(found=True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_where_a_part_of_the_cache_is_closed_things_are_made_for_the_moment(
    home: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def closed(path: Path, *arguments: Any) -> None:
        if Path(path) == home / "things":
            raise OSError(number, os.strerror(number))
        mkdir(path, *arguments)

    mkdir = os.mkdir
    monkeypatch.setattr(os, "mkdir", closed)
    made = store.kept("things", {}, lambda folder: {"of": "now"})
    assert made.facts == {"of": "now"} and home not in made.folder.parents and made.folder.is_dir()


@pytest.mark.parametrize(("number", "fix"), [(errno.ENOSPC, "Free some space, or set "), (errno.EIO, "Set ")])
def test_what_is_advised_where_nothing_can_be_kept_can_be_done(home: Path, number: int, fix: str) -> None:
    def make(folder: Path) -> dict[str, str]:
        raise OSError(number, os.strerror(number))

    with pytest.raises(RunError) as refused:
        store.kept("things", {}, make)
    said = f"Cannot keep things in {home}: {os.strerror(number)}. {fix}HEEDFUL_HOME to another folder."
    assert str(refused.value) == said


def test_a_user_without_a_name_or_a_home_has_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was started for a bare number; where that cannot be written, nothing is kept."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "HEEDFUL_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert store.cache_home() == Path("/.cache/heedful")
    assert not works_offline("gpt2")


def test_a_home_that_was_named_is_never_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEEDFUL_HOME", "~nobody-at-all/cache")
    assert store.cache_home() == Path("~nobody-at-all/cache")  # as a shell leaves it


def filled(folder: Path) -> dict[str, int]:
    assert not [*folder.iterdir()]
    (folder / "content").write_text("content")
    return {"files": 1}


def test_what_is_used_stays_however_long_ago_it_was_made(home: Path) -> None:
    made = store.kept("things", {"of": "this"}, filled).folder
    for path in (made / "MANIFEST.json", made):
        os.utime(path, (0, 0))
    assert store.kept("things", {"of": "this"}, filled).found
    store.kept("things", {"of": "that"}, filled)
    assert (made / "content").exists()


def test_what_was_never_finished_is_removed_in_time(home: Path) -> None:
    def stopped(folder: Path) -> dict[str, int]:
        (folder / "half").touch()
        os.utime(folder, (0, 0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.kept("things", {"of": "this"}, stopped)
    store.kept("things", {"of": "that"}, filled)
    assert not [*home.rglob("half")]


def test_one_process_makes_a_thing_while_others_wait(home: Path) -> None:
    def make(folder: Path) -> dict[str, int]:
        with open(folder.with_suffix(".lock")) as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return {}

    store.kept("things", {}, make)


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize(("file", "text"), [("content", "cut"), ("MANIFEST.json", "null"), ("MANIFEST.json", "{")])
def test_what_is_damaged_is_made_again_from_nothing(home: Path, file: str, text: str, hashed: bool) -> None:
    made = store.kept("things", {}, filled, hashed)
    (made.folder / file).write_text(text)
    assert not store.kept("things", {}, filled, hashed).found
    assert (made.folder / "content").read_text() == "content"
