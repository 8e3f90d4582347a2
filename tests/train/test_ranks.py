"""Two real processes train as one does: order, loss and checkpoints; when one dies, both end.

Starting processes is what takes time here, so `trained` performs all trainings in three starts, by trainings.py, and
ranks are forked and meet at a store of ours. One test leaves all of it to torchrun.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import make_rows
from tests.processes import run_heedful
from tests.train.launcher import (
    Launcher,
    run_all,
    run_to_the_last_signal,
    run_with_endless_data,
    train_after_a_refusal,
)
from tests.train.ranks import SHARDING, SHORT, Trained, events, lines, settings

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1")


@pytest.fixture(scope="module")
def odd_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which 4 n + 1 are trained on: the last update of an epoch has one row, so that a rank has none."""
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps(make_rows(34)), encoding="utf-8")
    path.with_name("one.json").write_text(json.dumps(make_rows(1)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(odd_rows: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made = Trained(tmp_path_factory.mktemp("trained"))
    for part, some in lines(odd_rows, tiny_folder).items():
        file = made.home / f"{part}.json"
        file.write_text(json.dumps(some))
        (made.perform_together if part == "two" else made.perform)(file)
    return made


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("how", ["two", "sharded"])
def test_any_number_of_ranks_takes_the_same_course(trained: Trained, how: str, method: str) -> None:
    assert trained.codes(f"{method}-{how}") == [0, 0], trained.said[f"{method}-{how}"]
    receipt = json.loads((trained.home / f"{method}-one" / "receipt.json").read_text())
    assert receipt["encoding"]["rows"] % 4 == 1  # a short last group
    trained.assert_same_course(f"{method}-{how}", f"{method}-one")
    trained.assert_same_model(f"{method}-{how}", f"{method}-one")


@pytest.mark.parametrize(("how", "ranks"), [("one", 1), ("two", 2), ("sharded", 2)])
def test_one_rank_speaks_and_writes_and_no_library_does(trained: Trained, how: str, ranks: int) -> None:
    name = f"lora-{how}"
    assert trained.shown[name].count("chat with the run:") == 1
    assert trained.said[name].count("step 3: validation loss") == 1
    assert "Warning" not in trained.said[name]
    assert json.loads((trained.home / name / "provenance.json").read_text())["ranks"] == ranks
    assert not list(trained.home.rglob("*.tmp*"))


@pytest.mark.parametrize("how", ["two", "sharded"])
def test_bf16_takes_the_same_course_but_for_rounding(trained: Trained, how: str) -> None:
    """Emulated where the processor lacks it; the masters stay fp32 either way."""
    assert trained.codes(f"bf16-{how}") == [0, 0], trained.said[f"bf16-{how}"]
    losses = [[e["loss"] for e in trained.events(f"bf16-{each}", "step")] for each in (how, "one")]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
    assert losses[0] != [e["loss"] for e in trained.events(f"full-{how}", "step")]  # it was bf16
    newest = max((trained.home / f"bf16-{how}" / "checkpoints").glob("step-*"))
    assert {w.dtype for w in load_file(newest / "model.safetensors").values()} == {torch.float32}


def test_every_rank_holds_the_same_weights(trained: Trained) -> None:
    """To the last bit, though one rank took more forwards than another and their gradients were rounded apart."""
    for name in ("full-two", "lora-two", "bf16-two"):
        ours, theirs = ((trained.home / f"{name}.{rank}.masters").read_text().splitlines() for rank in (0, 1))
        assert ours == theirs and len(set(ours)) > 2


@pytest.mark.parametrize("before", list(SHARDING))
@pytest.mark.parametrize("after", list(SHARDING))
def test_a_checkpoint_resumes_on_other_ranks(trained: Trained, before: str, after: str) -> None:
    """One process and back, whole and sharded: the course is that of the run that was never interrupted."""
    if before == after:
        pytest.skip("test_resume.py compares bits")
    name = f"resumed-{before}-{after}"
    assert set(trained.codes(name)) == {0}, trained.said[name]
    assert trained.said[name].count("Resuming from step-000004") == 1
    ours, theirs = (trained.events(each, "step") for each in (name, "whole-one"))
    assert [e["step"] for e in ours] == [1, 2, 3, 4, 5, 6, 7]
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    trained.assert_same_model(name, "whole-one")


def test_where_one_rank_lacks_memory_all_ranks_halve_alike(trained: Trained) -> None:
    assert trained.codes("memory-two") == [0, 0], trained.said["memory-two"]
    smaller = trained.events("memory-two", "memory")
    assert smaller and trained.said["memory-two"].count("Memory ran out") == len(smaller)
    trained.assert_same_course("memory-two", "full-one")


def test_sharded_ranks_end_where_one_lacks_memory(trained: Trained) -> None:
    """Its forward is everybody's: the others wait in it."""
    assert trained.codes("memory-sharded") == [1, 1]
    assert trained.said["memory-sharded"].count("heedful: ") == 1
    assert "Memory ran out on rank 1" in trained.said["memory-sharded"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("alone-one", "single process"),
        ("many-two", "2 ranks are more than the 1 rows of an update"),
        ("few-two", "2 ranks are more than the 1 training rows"),
        ("kind-two", "train.sharding=half is not valid: input should be 'none' or 'full'"),
        ("budget-two", "--budget works in a single process only"),
    ],
)
def test_what_ranks_cannot_train_is_refused_in_one_sentence(trained: Trained, name: str, what: str) -> None:
    assert set(trained.codes(name)) == {2}
    assert trained.said[name].count("heedful: ") == 1
    assert what in trained.said[name]
    assert not (trained.home / name / "config.yaml").exists()


def test_a_folder_that_holds_a_run_is_refused_once(trained: Trained) -> None:
    assert trained.codes("again-two") == [2, 2]
    assert trained.said["again-two"].count("already holds a run") == 1
    assert trained.said["again-two"].count("heedful: ") == 1


def steps_of(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").read_bytes().count(b'"event": "step"')
    except OSError:
        return 0


def long_training(run: Path, rows: Path, model: Path, *more: str) -> list[str]:
    long = ["train", str(rows), "--model", str(model), "--epochs", "500", *settings(*SHORT, *more)]
    return [*long, "--out", str(run)]


def wait_until_it_trains(run: Path, ended: Callable[[], object]) -> None:
    until = time.monotonic() + 100
    while steps_of(run) < 5:
        assert not ended() and time.monotonic() < until
        time.sleep(0.01)


def test_a_rank_that_is_killed_ends_the_other_by_name(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = Launcher()
    ranks = launcher.start(tmp_path, run_heedful, long_training(run, odd_rows, tiny_folder))
    wait_until_it_trains(run, ranks[0].poll)
    ranks[1].kill()
    assert ranks[0].wait(100) == 1
    assert ranks[0].stderr.count("heedful: ") == 1
    assert "heedful: Rank 0 lost rank 1" in ranks[0].stderr


def test_the_loss_of_the_ranks_store_is_told_as_that(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Without it, nobody can ask who is gone."""
    run = tmp_path / "run"
    ranks = Launcher(hosts=False).start(tmp_path, run_heedful, long_training(run, odd_rows, tiny_folder))
    wait_until_it_trains(run, ranks[0].poll)
    ranks[0].kill()
    assert ranks[1].wait(100) == 1
    assert ranks[1].stderr.count("heedful: ") == 1
    assert "heedful: Rank 1 lost the process that keeps the ranks' store" in ranks[1].stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_rank_saves_once_and_ends_all(
    number: signal.Signals, odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launcher = Launcher()
    ranks = launcher.start(tmp_path, run_heedful, long_training(run, odd_rows, tiny_folder))
    wait_until_it_trains(run, ranks[0].poll)
    ranks[1].send(number)
    assert [rank.wait(60) for rank in ranks] == [128 + number] * 2
    said = ranks[0].stderr + ranks[1].stderr
    assert said.count("Interrupted") == 1 and "Interrupted; the run is saved" in said, said
    (saved,) = (run / "checkpoints").glob("step-*")
    assert int(saved.name[5:]) == steps_of(run)


def test_an_interrupt_of_one_rank_before_there_is_a_run_is_said_once(
    odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    launcher = Launcher()
    words = long_training(tmp_path / "run", odd_rows, tiny_folder)
    ranks = launcher.start(tmp_path, run_with_endless_data, words)
    until = time.monotonic() + 100
    while not (tmp_path / "prepares").exists():
        assert ranks[0].poll() is None and time.monotonic() < until
        time.sleep(0.01)
    ranks[0].send(signal.SIGINT)
    assert [rank.wait(60) for rank in ranks] == [130, 130]
    assert ranks[0].stderr + ranks[1].stderr == "heedful: Interrupted.\n"


def test_a_program_trains_after_a_refusal_and_a_signal_saves_it(
    odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Also where torchrun keeps no store: that of the first training serves the second."""
    run = tmp_path / "run"
    wanted = {**dict(setting.split("=") for setting in SHORT), "train.epochs": 500}
    ranks = Launcher(hosts=False).start(tmp_path, train_after_a_refusal, odd_rows, tiny_folder, run, wanted)
    wait_until_it_trains(run, lambda: ranks[0].poll() is not None)
    ranks[1].send(signal.SIGTERM)
    assert all(rank.wait(60) for rank in ranks)
    assert "Interrupted; the run is saved" in ranks[0].stderr + ranks[1].stderr
    (saved,) = (run / "checkpoints").glob("step-*")
    assert int(saved.name[5:]) == steps_of(run)


def test_a_rank_that_ends_is_disturbed_by_no_signal(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    words = long_training(tmp_path / "run", odd_rows, tiny_folder, "train.batch_size=1")
    launcher = Launcher()
    ranks = launcher.start(tmp_path, run_to_the_last_signal, words)
    assert [rank.wait(60) for rank in ranks] == [2, 2]
    assert (ranks[0].stderr + ranks[1].stderr).count("heedful: ") == 1


def test_ranks_that_are_started_again_take_up_no_run_but_their_own(
    trained: Trained, odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """What torchrun does by itself must not be what nobody asked for: the run of another day goes on as it was."""
    run = trained.home / "full-one"
    before = (run / "model" / "model.safetensors").read_bytes()
    own = long_training(tmp_path / "own", odd_rows, tiny_folder, "train.max_steps=1")
    another = long_training(run, odd_rows, tiny_folder)
    launcher = Launcher()
    for words in ([own, another], [another]):  # the second time, what was done is left out
        ranks = launcher.start(tmp_path, run_all, words)
        assert [rank.wait() for rank in ranks] == [2, 2], ranks[0].stderr
        assert "already holds a run" in ranks[0].stderr + ranks[1].stderr
    assert (tmp_path / "own" / "model").is_dir()
    assert (run / "model" / "model.safetensors").read_bytes() == before


def test_where_torchrun_hosts_no_store_a_second_attempt_goes_on_with_what_is_there(
    trained: Trained, odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Then nothing outlives an attempt that could tell whose the run is."""
    run = tmp_path / "run"
    shutil.copytree(trained.home / "part-two", run)
    more = ["train", str(odd_rows), "--model", str(tiny_folder), *settings("train.max_steps=7"), "--out", str(run)]
    launcher = Launcher(hosts=False)
    ranks = launcher.start(tmp_path, run_heedful, more)
    assert [rank.wait() for rank in ranks] == [2, 2]
    ranks = launcher.start(tmp_path, run_heedful, more)
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].stderr
    assert "Resuming from step-000004" in ranks[0].stderr


def workers(launcher: int) -> list[int]:
    """Return the process ids of the ranks, in their order."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    found = {}
    for child in children:
        surroundings = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(line[5:]): int(child) for line in surroundings if line.startswith(b"RANK=")}
    return [found[rank] for rank in sorted(found)]


def test_torchrun_starts_the_ranks_again_after_one_was_killed(
    odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """With `--max-restarts` the same command continues from the last checkpoint."""
    run = tmp_path / "run"
    wanted = ("train.sharding=full", "train.save_every=2", "train.max_steps=40", "train.evaluate_every=40")
    command = [*TORCHRUN, "-m", "heedful", *long_training(run, odd_rows, tiny_folder, *wanted)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as launcher:
        wait_until_it_trains(run, lambda: launcher.poll() is not None)
        os.kill(workers(launcher.pid)[0], signal.SIGKILL)
        _, said = launcher.communicate(timeout=100)
    assert launcher.returncode == 0, said
    assert said.count("heedful: ") == 1
    assert "heedful: Rank 1 lost rank 0" in said, said
    assert said.count("Resuming from step-") == 1
    assert [e["step"] for e in events(run) if e["event"] == "step"] == list(range(1, 41))
