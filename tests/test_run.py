"""Files of a run are whole or absent, one process holds it, and its log can be cut."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from heedful.begin import claim_folder, configure, new_run, newest_run, resolve_run
from heedful.errors import HeedfulError, Interrupted, RunError, UsageError, did_you_mean
from heedful.run import Run, make_directory, open_run
from heedful.system.atomic import atomic_write, read_json, write_json
from heedful.system.lock import lock


def test_what_is_named_at_a_resume_counts_even_if_it_is_the_default(tmp_path: Path) -> None:
    run, recipe = Run(tmp_path / "run"), tmp_path / "recipe.yaml"
    run.path.mkdir()
    run.write_config(configure(None, ["train.lr=1e-5", "train.epochs=3"], "rows.json", "gpt2"))
    recipe.write_text("train: {lr: 2.0e-5}")
    for asked in (("builtin", None), (None, "smollm2-135m")):
        with pytest.raises(UsageError, match="Cannot resume"):
            resolve_run(configure(None, [], *asked), run.path, True)
    with pytest.raises(UsageError, match=r"train.lr was 1e-05, now 2e-05"):
        resolve_run(configure(recipe, [], None, None), run.path, True)
    named = ["train.evaluate_every=50", "train.drop_last=true"]
    with pytest.raises(UsageError, match=r"train.drop_last was false, now true; train.evaluate_every was null, now 50"):
        resolve_run(configure(None, named, None, None), run.path, True)
    for settings, epochs in (([], 3), (["train.epochs=2"], 2)):  # 2 is the default
        _, tree = resolve_run(configure(None, settings, "rows.json", "gpt2"), run.path, True)
        assert tree == run.config({"train.epochs": epochs}).model_dump(mode="json")


def test_a_name_stays_where_the_first_folder_is_closed_to_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, look = Run(tmp_path), os.stat

    def closed(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith("/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root would be let in
        return look(path, *arguments, **options)

    run.write_config(configure(None, [], None, None))
    write_json(run.provenance_file, {"folder": "/closed/home"})
    monkeypatch.setattr(os, "stat", closed)
    assert run.located(run.config()) == run.config()


@pytest.mark.parametrize("target", ["os.fsync", "os.replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": True})

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        with pytest.raises(RunError, match="No space left on device"):
            atomic_write(path, "new")
    assert read_json(path) == {"old": True}
    assert [f.name for f in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EACCES, "Permission denied. Get write permission there."), (errno.EIO, "Input/output error."),
     (errno.EDQUOT, "Disk quota exceeded. Free some space.")],
)  # fmt: skip
def test_what_is_advised_where_nothing_can_be_written_can_be_done(
    number: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every verb has another place to write to."""

    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunError) as refused:
        atomic_write(tmp_path / "a", "")
    assert str(refused.value) == f"Cannot write {tmp_path / 'a'}: {told}"


def test_the_log_is_whole_lines_of_plain_json(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.metrics() == []
    run.log({"event": "step", "loss": float("nan"), "text": "日\n"})
    size = run.sync_metrics()
    run.log({"event": "step", "loss": float("inf")})
    assert run.metrics() == [{"event": "step", "loss": None, "text": "日\n"}, {"event": "step", "loss": None}]
    with open(run.metrics_file, "a") as file:
        file.write('{"event": "ha')
    assert len(run.metrics()) == 2
    run.cut_metrics(size)
    assert len(run.metrics()) == 1
    run.cut_metrics(10_000)
    assert run.metrics_file.stat().st_size == size
    run.metrics_file.write_text("not json\n")
    with pytest.raises(RunError, match="not JSON"):
        run.metrics()


def test_one_process_holds_a_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with lock(tmp_path), pytest.raises(UsageError, match=rf"in use by process {os.getpid()} on"), lock(tmp_path):
        pass
    with lock(tmp_path), pytest.raises(RunError, match="its training never finished"):
        run.check_model()  # as a verb does that holds it
    assert (run.path / "run.lock").read_text().count("process") == 1


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path) -> None:
    run = Run(tmp_path)
    script = "import sys; from pathlib import Path; from heedful.system.lock import lock"
    script += "\nwith lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holds = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(holds, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=rf"no model yet: process {other.pid} on .* trains it\. Wait"):
            run.check_model()
        other.communicate()
    with pytest.raises(RunError, match="its training never finished"):
        run.check_model()


@pytest.mark.parametrize("began", [True, False])
def test_a_run_in_a_folder_that_we_may_only_read_is_held_as_far_as_it_can_be(
    began: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written; who may write there is heeded. As root may write anywhere, the system is asked in vain."""
    run = Run(tmp_path)
    run.config_file.touch()
    if began:
        (run.path / "run.lock").write_text("process 7 on another\n")
    before = {file: file.read_text() for file in tmp_path.iterdir()}
    access, writable = os.access, [False]
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and writable[0])
    with lock(tmp_path), lock(tmp_path):  # two readers do each other no harm
        writable[0] = True
        with pytest.raises(UsageError, match="in use by") if began else nullcontext(), lock(tmp_path):
            pass
    if began:
        assert {file: file.read_text() for file in tmp_path.iterdir()} == before


def test_a_run_that_fails_before_it_began_leaves_its_name_free(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(UsageError, match="in use"), claim_folder(run, False), claim_folder(run, False):
        pass
    assert not run.path.exists()
    with claim_folder(run, False):
        run.config_file.touch()
    assert {file.name for file in run.path.iterdir()} == {"config.yaml", "run.lock"}


def test_a_run_that_another_process_began_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(run: Run) -> None:
        make_directory(run)
        run.config_file.write_text("theirs")

    monkeypatch.setattr("heedful.begin.make_directory", begun)
    with pytest.raises(UsageError, match="already holds a run"), claim_folder(Run(tmp_path / "run"), resume=False):
        pytest.fail("it was taken")
    assert (tmp_path / "run/config.yaml").read_text() == "theirs"


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_run(None, "a b/c").path == Path("runs/a-b-c-001")
    (tmp_path / "runs/a-b-c-001").mkdir(parents=True)
    assert new_run(None, "a b/c").path == Path("runs/a-b-c-002")
    (tmp_path / "runs/a-b-c-001").rename(tmp_path / "runs/a-b-c-002")
    assert new_run(None, "a b/c").path == Path("runs/a-b-c-001")
    assert new_run("here", "a").path == Path("here")
    with pytest.raises(UsageError, match="no run to resume"):
        newest_run(None)
    with pytest.raises(UsageError, match="is not a run"):
        open_run("runs/a-b-c-002")


def test_the_run_that_was_written_to_last_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [Run(Path("runs") / name) for name in ("a-001", "b-001")]
    for run in runs:
        run.path.mkdir(parents=True)
        run.write_config(configure(None, [], "rows.json", "gpt2"))
        run.log({"event": "validation"})
        os.utime(run.metrics_file, (1_000_000, 1_000_000))
    for now, (last, other) in enumerate((runs, reversed(runs), runs), 2):
        last.log({"event": "step"})
        os.utime(last.metrics_file, (now * 1_000_000, now * 1_000_000))
        with lock(other.path):  # as an evaluation does, which may write the settings too
            other.write_config(other.config({"evaluate.decides": "chrf"}))
        assert newest_run(None).path == last.path


def test_a_run_that_was_killed_before_it_began_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another, older one would be resumed without a word."""
    monkeypatch.chdir(tmp_path)
    older, killed = Run(Path("runs/a-001")), Run(Path("runs/a-002"))
    older.path.mkdir(parents=True)
    older.write_config(configure(None, [], "rows.json", "gpt2"))
    with claim_folder(killed, resume=False):
        (tmp_path / "a-002").mkdir()
        shutil.copy(killed.path / "run.lock", tmp_path / "a-002")
    (tmp_path / "a-002").rename(killed.path)
    os.utime(older.config_file, (1_000_000, 1_000_000))
    for out in (None, killed.path):
        with pytest.raises(UsageError, match="a-002 has not begun to train, so there is nothing to resume"):
            newest_run(out)
    with claim_folder(killed, resume=False):
        pass


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot write to"):
        make_directory(Run(tmp_path / "file/run"))


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for name in ("broken.json", "absent.json"):
        with pytest.raises(RunError, match=name):
            read_json(tmp_path / name)


def test_errors_have_exit_codes_and_a_fix() -> None:
    assert str(UsageError("Wrong.", "Do this.")) == "Wrong. Do this."
    assert [error("x").exit_code for error in (HeedfulError, UsageError, RunError)] == [1, 2, 1]
    assert Interrupted(signal.SIGTERM, Path("runs")).exit_code == 143
    assert "heedful train --resume --out 'my runs/a' continues" in str(Interrupted(signal.SIGINT, Path("my runs/a")))
    assert "--out ./-a continues" in str(Interrupted(signal.SIGINT, Path("-a")))
    assert did_you_mean("trane", ["train", "encode"]) == "Did you mean 'train'?"
    assert did_you_mean("qqq", ["train"]) == ""
    assert stat.S_ISDIR(os.stat(".").st_mode)


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "notes.txt", "checkpoints", "checkpoints/step-000100"]
)
def test_a_folder_that_is_no_run_keeps_what_it_holds(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"holds no run: there is {name}"), claim_folder(Run(tmp_path), resume=False):
        pytest.fail("it was taken")
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_looked_into_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root would look into it, the system is made to refuse."""

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UsageError, match="Cannot look into"), claim_folder(Run(tmp_path), resume=False):
        pytest.fail("it was taken")


def test_what_was_killed_before_it_began_is_begun_again(tmp_path: Path) -> None:
    for left in ("run.lock", ".config.yaml.tmp-7", "checkpoints/.measure.tmp-7", "lost+found/1"):
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).touch()
    with claim_folder(Run(tmp_path), resume=False):
        pass


def test_a_look_whether_a_folder_can_be_written_leaves_its_files(tmp_path: Path) -> None:
    (tmp_path / ".writable").touch()
    make_directory(Run(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [".writable"]
