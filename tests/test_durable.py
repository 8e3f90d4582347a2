"""What is put in its place is on the disk before, and so is what a checkpoint counts on: a power cut takes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heedful import store
from heedful.atomic import atomic_write, whole_folder
from tests.train.sessions import session

Events = list[tuple[str, str]]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Note what is synced, by its name, what is given another name, and by which."""
    noted: Events = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        noted.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        sync(descriptor)

    def renamed(real):  # type: ignore[no-untyped-def]
        def rename(old: Path, new: Path) -> None:
            noted.append((Path(old).name, Path(new).name))
            real(old, new)

        return rename

    monkeypatch.setattr("os.fsync", fsync)
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
    with whole_folder(folder) as temporary:
        for name in ("a", "b"):
            (temporary / name).write_text(name)
    named = events.index((temporary.name, "folder"))
    assert {("sync", "a"), ("sync", "b"), ("sync", temporary.name)} <= {*events[:named]}
    assert events[named + 1 :] == [("sync", tmp_path.name)]


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
