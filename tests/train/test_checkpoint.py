"""A checkpoint is whole or does not exist, whatever happens while it is written and afterwards."""

from __future__ import annotations

import errno
import json
import os
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.train.sessions import session

from heedful.errors import RunError
from heedful.records import Progress
from heedful.train import checkpoint

FINGERPRINT = {"model": "m", "examples": "e"}


def save(folder: Path, step: int) -> Path:
    path = folder / f"step-{step:06d}"
    weights = {"w": torch.full((3, 2), float(step)), "v": torch.arange(6.0).reshape(2, 3).T}
    moments = {"w.step": torch.tensor(float(step)), "w.exp_avg": torch.ones(3, 2)}
    checkpoint.save(path, weights, moments, Progress(step, 1, 2, 300), 77, FINGERPRINT)
    return path


def newest(folder: Path) -> tuple[checkpoint.Checkpoint | None, list[str]]:
    said: list[str] = []
    return checkpoint.newest(folder, said.append), said


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    found, said = newest(tmp_path)
    assert found is not None
    assert (found.path, found.progress, found.metrics_bytes, found.fingerprint) == (
        path,
        Progress(7, 1, 2, 300),
        77,
        FINGERPRINT,
    )
    assert torch.equal(found.weights["v"], torch.arange(6.0).reshape(2, 3).T)
    assert float(found.moments["w.step"]) == 7
    assert not said
    assert sorted(f.name for f in path.iterdir()) == [
        "MANIFEST.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "absent") == (None, [])


FILES = ["MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_byte_is_found_and_the_one_before_is_used(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    file = save(tmp_path, 2) / name
    whole = file.read_bytes()
    for at in range(0, len(whole), 7 if name.endswith("safetensors") else 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x02]) + whole[at + 1 :])
        found, said = newest_or_refusal(tmp_path)
        if name == "MANIFEST.json" and found is not None and found.progress.step == 2:
            assert json.loads(file.read_bytes())["files"] == json.loads(whole)["files"]  # a blank, or an older format
            continue
        assert (found is None and "format" in said[0]) or (found is not None and found.progress.step == 1), (at, said)


def newest_or_refusal(folder: Path) -> tuple[checkpoint.Checkpoint | None, list[str]]:
    try:
        return newest(folder)
    except RunError as error:
        return None, [str(error)]


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_and_absence_is_found(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    file = save(tmp_path, 2) / name
    whole = file.read_bytes()
    for size in (*(2**k for k in range(12) if 2**k < len(whole)), 0, len(whole) - 1):
        file.write_bytes(whole[:size])
        found, said = newest(tmp_path)
        assert found is not None
        assert found.progress.step == 1
        assert "step-000002" in said[0]
    file.unlink()
    found, _ = newest(tmp_path)
    assert found is not None
    assert found.progress.step == 1


def test_a_newer_format_is_refused_not_skipped(tmp_path: Path) -> None:
    manifest = save(tmp_path, 1) / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(RunError, match=r"format 2; this heedful reads up to 1"):
        newest(tmp_path)


@pytest.mark.parametrize(("others", "told"), [((), "begins again"), ((1,), "continues from the checkpoint before")])
def test_a_full_disk_tells_from_where_the_run_will_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: tuple[int, ...], told: str
) -> None:
    for step in others:
        save(tmp_path, step)
    monkeypatch.setattr("os.fsync", failing("os.fsync", 0, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(RunError, match=f"GiB are free there; --resume {told}"):
        save(tmp_path, 2)


@pytest.mark.parametrize(
    ("keeps_best", "free", "told"), [(True, 336, False), (True, 335, True), (False, 252, False), (False, 251, True)]
)
def test_a_disk_that_may_be_too_small_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_best: bool, free: int, told: bool
) -> None:
    """7 Mi weights in two states and one that is being written, of three numbers each, and three best: 48 bytes."""
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free * 2**20))
    said: list[str] = []
    checkpoint.say_if_short(tmp_path, [torch.empty(2**20, 3), torch.empty(2**22)], keeps_best, said.append)
    assert [f"GiB at a time in {tmp_path}, where 0." in text for text in said] == [True] * told


CALLS = ["os.rename", "os.fsync", "os.mkdir", "heedful.train.checkpoint.save_file", "heedful.system.atomic.sha256"]


@pytest.mark.parametrize("target", CALLS)
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_at_any_call_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, again: bool, failure: BaseException
) -> None:
    """Let the k-th call fail, for every k, until the save succeeds; `again` replaces a checkpoint of the same name."""
    save(tmp_path, 1)

    for k in range(40):
        if again:
            save(tmp_path, 2)
        with monkeypatch.context() as patch:
            patch.setattr(target, failing(target, k, failure))
            try:
                save(tmp_path, 2)
                break
            except (RunError, KeyboardInterrupt) as error:
                said_why = isinstance(error, KeyboardInterrupt) or re.search("No space left.*GiB are free", str(error))
        assert said_why
        found, said = newest(tmp_path)
        assert found is not None
        assert found.progress.step in (1, 2)
        assert not said
        assert not list(tmp_path.glob(".*"))
        if found.progress.step == 2 and not again:
            assert target == "os.fsync"  # only the parent's sync comes after the rename
            checkpoint.forget_after(tmp_path, 1)
    else:
        pytest.fail("the save never succeeded")
    assert k > 0
    found, _ = newest(tmp_path)
    assert found is not None
    assert found.progress.step == 2


def failing(target: str, k: int, failure: BaseException) -> Callable[..., Any]:
    real = pkgutil.resolve_name(target)
    count = iter(range(k + 1))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(count, None) == k:
            raise failure
        return real(*arguments, **options)

    return call


def test_two_checkpoints_stay_and_what_is_not_ours(tmp_path: Path) -> None:
    for name in ("step-notes", "mine", "step-000001.bak"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "step-5").write_text("a file")
    for step in (100, 200, 300):
        save(tmp_path, step)
        checkpoint.prune(tmp_path)
    names = sorted(f.name for f in tmp_path.iterdir())
    assert names == ["mine", "step-000001.bak", "step-000200", "step-000300", "step-5", "step-notes"]


def test_a_run_removes_old_checkpoints_as_it_goes(tmp_path: Path) -> None:
    trained = session(tmp_path, "train.save_every=1", "train.max_steps=4", "train.keep=last")
    trained.fit()
    assert sorted(f.name for f in trained.run.checkpoints.iterdir()) == ["step-000003", "step-000004"]


def test_steps_are_ordered_by_number(tmp_path: Path) -> None:
    for step in (999_900, 1_000_000):
        save(tmp_path, step)
    found, _ = newest(tmp_path)
    assert found is not None
    assert found.progress.step == 1_000_000


def test_of_the_best_weights_the_last_stay_and_those_of_each_checkpoint(tmp_path: Path) -> None:
    """Whichever a run goes back to, it finds the best that it knew then."""
    save(tmp_path, 10)
    save(tmp_path, 20)
    for step in (5, 8, 15, 18, 25, 30):
        checkpoint.write(tmp_path / f"best-{step:06d}", {"w": torch.ones(1)})
    checkpoint.prune(tmp_path)
    assert sorted(f.name for f in tmp_path.glob("best-*")) == ["best-000008", "best-000018", "best-000030"]
    for back, left in ((30, "best-000030"), (20, "best-000018"), (10, "best-000008")):
        checkpoint.forget_after(tmp_path, back)
        assert checkpoint.best(tmp_path) == tmp_path / left


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    leftover = tmp_path / ".step-000002.tmp-4194305"  # no process can have that number
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    mine = tmp_path / ".step-000002.tmp-mine"
    mine.mkdir()
    newest(tmp_path)
    assert not leftover.exists() and mine.exists()
