"""What is put in its place is on the disk before, and so is what a checkpoint counts on: a power cut takes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.train.sessions import session

from heedful.system import store
from heedful.system.atomic import atomic_write, beside, remove_leftovers, replace_directory, whole_folder

Events = list[tuple[str, str]]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Note what is synced, by its name, what is given another name, and by which, and what is removed."""
    noted: Events = []
    sync, remove = os.fsync, shutil.rmtree

    def fsync(descriptor: int) -> None:
        noted.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        sync(descriptor)

    def renamed(real):  # type: ignore[no-untyped-def]
        def rename(old: Path, new: Path) -> None:
            noted.append((Path(old).name, Path(new).name))
            real(old, new)

        return rename

    def rmtree(path: Path, *arguments: Any, **options: Any) -> None:
        if os.path.exists(path):
            noted.append(("remove", Path(path).name))
        remove(path, *arguments, **options)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("shutil.rmtree", rmtree)
    monkeypatch.setattr("os.rename", renamed(os.rename))
    monkeypatch.setattr("os.replace", renamed(os.replace))
    return noted


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_its_name_after(tmp_path: Path, events: Events) -> None:
    atomic_write(tmp_path / "file", "text")
    temporary = f".file.tmp-{os.getpid()}"
    assert events == [("sync", temporary), (temporary, "file"), ("sync", tmp_path.name)]


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_is_on_the_disk_before_it_gets_its_name_and_its_name_after(
    tmp_path: Path, events: Events, again: bool
) -> None:
    folder = tmp_path / "folder"
    if again:
        folder.mkdir()
    with whole_folder(folder, lambda: events.append(("call", "before"))) as temporary:
        for name in ("a", "b"):
            (temporary / name).write_text(name)
    called, old = events.index(("call", "before")), f".folder.tmp-old-{os.getpid()}"
    assert {("sync", "a"), ("sync", "b"), ("sync", temporary.name)} == {*events[:called]}
    placed = [(temporary.name, "folder"), ("sync", tmp_path.name)]
    assert events[called + 1 :] == ([("folder", old), *placed, ("remove", old)] if again else placed)


def test_what_a_killed_process_of_our_number_left_is_not_in_the_way(tmp_path: Path) -> None:
    """In a container each has the same."""
    beside(tmp_path / "folder").joinpath("half").mkdir(parents=True)
    with whole_folder(tmp_path / "folder") as temporary:
        assert not [*temporary.iterdir()]


def test_what_others_are_writing_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".model.tmp-7", f".model.tmp-{10**30}", ".other.tmp-4194305"):  # the system has no such numbers
        (tmp_path / name).mkdir()
    kill = os.kill

    def denied(number: int, sent: int) -> None:
        if number == 7:
            raise PermissionError
        kill(number, sent)

    monkeypatch.setattr(os, "kill", denied)
    for of, left in ("model", {".model.tmp-7", ".other.tmp-4194305"}), ("*", {".model.tmp-7"}):
        remove_leftovers(tmp_path, of)
        assert {path.name for path in tmp_path.iterdir()} == left


def test_where_a_file_system_knows_no_modes_files_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchmod", refuse)
    with whole_folder(tmp_path / "folder") as temporary:
        (temporary / "private").touch(0o600)
    assert (tmp_path / "folder/private").is_file()


def test_a_folder_that_cannot_be_put_in_its_place_costs_the_old_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/old").touch()
    rename = os.rename
    fails = iter([False, True, False])
    monkeypatch.setattr(os, "rename", lambda *names: os.close(-1) if next(fails) else rename(*names))
    with pytest.raises(OSError), whole_folder(tmp_path / "model") as folder:  # noqa: PT011 (any will do)
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]


def test_what_is_kept_is_on_the_disk_before_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path))

    def make(folder: Path) -> dict[str, int]:
        (folder / "content").write_text("content")
        return {}

    store.kept("things", {"of": "this"}, make)
    manifest = events.index((f".MANIFEST.json.tmp-{os.getpid()}", "MANIFEST.json"))
    assert ("sync", "content") in events[:manifest]


def test_what_a_checkpoint_counts_on_is_on_the_disk_before_it(tmp_path: Path, events: Events) -> None:
    """A resume cuts both back to what they were then: what is not there it could not cut back to."""
    session(tmp_path, "train.max_steps=1").fit()
    saved = next(at for at, (_, name) in enumerate(events) if name == "step-000001")
    assert {("sync", "metrics.jsonl"), ("sync", "row-losses.bin")} <= {*events[:saved]}


def test_a_directory_takes_anothers_place(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_directory(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old/file").read_text() == "new"
    assert [f.name for f in tmp_path.iterdir()] == ["old"]


def test_a_folder_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "disk/far").mkdir(parents=True)
    (tmp_path / "model").symlink_to("disk/far")
    for content in ("one", "two"):
        with whole_folder(tmp_path / "model") as folder:
            assert folder.parent == tmp_path / "disk"  # else it could not be renamed
            (folder / "file").write_text(content)
        assert (tmp_path / "disk/far/file").read_text() == content
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} >= {"model", "disk/far"}
    assert sorted(os.listdir(tmp_path)) == ["disk", "model"] and os.listdir(tmp_path / "disk") == ["far"]
