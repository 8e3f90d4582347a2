"""Two real processes under torchrun train as one does: order, loss and checkpoints; when one dies, both end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import make_rows

from heedful.train.ranks import deal

SHORT = ("train.precision=fp32", "evaluate.after_training=false", "generate.max_tokens=3", "train.batch_size=4")
RANKS = {"one": (1, ()), "two": (2, ()), "sharded": (2, ("train.sharding=full",))}


def command(ranks: int, *arguments: object) -> list[str]:
    """Give the command line that trains on so many ranks."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    return [sys.executable, *torchrun, "-m", "heedful", "train", *map(str, arguments)]


def settings(*some: str) -> list[str]:
    return [word for setting in some for word in ("--set", setting)]


def train(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(ranks, *arguments), capture_output=True, text=True, timeout=200)


def events(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def steps_of(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").read_bytes().count(b'"event": "step"')
    except OSError:
        return 0


def assert_same_course(run: Path, other: Path) -> None:
    """The same rows in the same order, and the same numbers to 1e-5; sharded ranks give no samples."""
    ours, theirs = ([e for e in events(path) if e["event"] != "sample"] for path in (run, other))
    assert [e["event"] for e in ours] == [e["event"] for e in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds"}:
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=1e-5), (a, b)


def assert_same_model(run: Path, other: Path) -> None:
    ours, theirs = (load_file(path / "model" / "model.safetensors") for path in (run, other))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def odd_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which 4 n + 1 are trained on: the last update of an epoch has one row, so that a rank has none."""
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps(make_rows(34)), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["full", "lora"])
def runs(request: pytest.FixtureRequest, odd_rows: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Train the same on one process, on two, and on two that share the weights out; forwards are cut small."""
    home = tmp_path_factory.mktemp(request.param)
    told = {}
    for name, (ranks, more) in RANKS.items():
        small = settings(*SHORT, *more, "encode.batch_tokens=256", "train.evaluate_every=3", "train.save_every=5")
        arguments = (odd_rows, "--model", tiny_folder, "--method", request.param, "--epochs", 2)
        told[name] = train(ranks, *arguments, *small, "--out", home / name)
    return home, told


def test_any_number_of_ranks_takes_the_same_course(runs) -> None:  # type: ignore[no-untyped-def]
    home, told = runs
    assert {name: done.returncode for name, done in told.items()} == dict.fromkeys(RANKS, 0), told
    assert json.loads((home / "one" / "receipt.json").read_text())["encoding"]["rows"] % 4 == 1  # a short last group
    for name in ("two", "sharded"):
        assert_same_course(home / name, home / "one")
        assert_same_model(home / name, home / "one")


def test_one_rank_speaks_and_no_library_does(runs) -> None:  # type: ignore[no-untyped-def]
    home, told = runs
    for name, (ranks, _) in RANKS.items():
        assert told[name].stdout.count("talk to it with") == 1
        said = told[name].stderr
        assert said.count("step 3: validation loss") == 1
        assert "Warning" not in said
        assert json.loads((home / name / "provenance.json").read_text())["ranks"] == ranks
        assert not list(home.rglob("*.tmp*"))


@pytest.fixture(scope="module")
def parts(odd_rows: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train four steps each way, and seven on one process."""
    home = tmp_path_factory.mktemp("parts")
    every = settings(*SHORT, "train.save_every=2", "train.schedule=constant", "train.warmup=0")
    for name, (ranks, more) in {**RANKS, "whole": (1, ())}.items():
        steps = settings(f"train.max_steps={7 if name == 'whole' else 4}", *more)
        done = train(ranks, odd_rows, "--model", tiny_folder, *every, *steps, "--out", home / name)
        assert done.returncode == 0, done.stderr
    return home


@pytest.mark.parametrize("before", list(RANKS))
@pytest.mark.parametrize("after", list(RANKS))
def test_a_checkpoint_resumes_on_other_ranks(before: str, after: str, parts: Path, tmp_path: Path) -> None:
    """One process and back, whole and sharded: the course is that of the run that was never interrupted."""
    if before == after == "one":
        pytest.skip("test_resume.py compares bits")
    run = tmp_path / "run"
    shutil.copytree(parts / before, run)
    ranks, more = RANKS[after]
    go_on = settings("train.max_steps=7", *(more or ("train.sharding=none",)))
    done = train(ranks, "--resume", "--out", run, *go_on)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Resuming from step-000004") == 1
    ours, theirs = ([e for e in events(path) if e["event"] == "step"] for path in (run, parts / "whole"))
    assert [e["step"] for e in ours] == [1, 2, 3, 4, 5, 6, 7]
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    assert_same_model(run, parts / "whole")


def test_bf16_takes_the_same_course_but_for_rounding(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Emulated where the processor lacks it; the masters stay fp32 either way."""
    script = tmp_path / "bf16.py"
    script.write_text("import heedful.train.precision as p; p.native_bf16 = lambda: True\n"
                      "from heedful.cli import main; main()\n")  # fmt: skip
    losses = {}
    for name, (ranks, more) in RANKS.items():
        plain = command(ranks, odd_rows, "--model", tiny_folder, "--epochs", 1)
        start = plain[: plain.index("-m", plain.index("heedful") - 1)]
        wanted = settings(*SHORT, *more, "train.precision=bf16", "encode.batch_tokens=256")
        line = [*start, str(script), *plain[plain.index("train") :], *wanted, "--out", str(tmp_path / name)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        losses[name] = [e["loss"] for e in events(tmp_path / name) if e["event"] == "step"]
        newest = max((tmp_path / name / "checkpoints").glob("step-*"))
        assert {w.dtype for w in load_file(newest / "model.safetensors").values()} == {torch.float32}
    assert losses["two"] == pytest.approx(losses["one"], rel=5e-3)
    assert losses["sharded"] == pytest.approx(losses["one"], rel=5e-3)


def workers(launcher: int) -> list[int]:
    """Give the process ids of the ranks, in their order."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    found = {}
    for child in children:
        surroundings = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(line[5:]): int(child) for line in surroundings if line.startswith(b"RANK=")}
    return [found[rank] for rank in sorted(found)]


def started(run: Path, odd_rows: Path, tiny_folder: Path, *more: str) -> subprocess.Popen[str]:
    """Start a long run on two ranks, and wait until it trains."""
    long = (odd_rows, "--model", tiny_folder, "--epochs", 500, *settings(*SHORT, *more), "--out", run)
    process = subprocess.Popen(command(2, *long), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while steps_of(run) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_rank_that_is_killed_ends_the_others_by_name(
    killed: int, sharding: str, odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    process = started(tmp_path / "run", odd_rows, tiny_folder, f"train.sharding={sharding}")
    os.kill(workers(process.pid)[killed], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"heedful: Rank {1 - killed} lost rank {killed}" in said, said


def test_a_signal_saves_once_and_ends_every_rank(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    process = started(tmp_path / "run", odd_rows, tiny_folder)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said.count("Interrupted; the run is saved") == 1, said
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert int(saved.name[5:]) == steps_of(tmp_path / "run")


def test_a_killed_run_is_started_again_by_torchrun(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """`--max-restarts 1`: the same command continues from the last checkpoint."""
    run = tmp_path / "run"
    wanted = settings(*SHORT, "train.save_every=2", "train.max_steps=120", "train.evaluate_every=60")
    launch = command(2, odd_rows, "--model", tiny_folder, "--epochs", 500, *wanted, "--out", run)
    launch.insert(launch.index("--standalone"), "--max-restarts=1")
    process = subprocess.Popen(launch, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while steps_of(run) < 12 and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(workers(process.pid)[1], signal.SIGKILL)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert said.count("Resuming from step-") == 1
    assert [e["step"] for e in events(run) if e["event"] == "step"] == list(range(1, 121))


@pytest.mark.parametrize(
    ("ranks", "more", "what"),
    [
        (1, ("train.sharding=full",), "single process"),
        (1, ("train.sharding=half",), "train.sharding=half"),
        (2, ("train.batch_size=1",), "2 ranks are more than the 1 rows of an update"),
    ],
)
def test_what_ranks_cannot_train_is_refused_before_any_work(
    ranks: int, more: tuple[str, ...], what: str, odd_rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    done = train(ranks, odd_rows, "--model", tiny_folder, *settings(*SHORT, *more), "--out", tmp_path / "run")
    assert done.returncode == (2 if ranks == 1 else 1)  # torchrun's own code; it reports ours
    assert done.stderr.count("heedful: ") == 1
    assert what in done.stderr
    assert ranks == 1 or "exitcode  : 2" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_budget_is_for_one_process(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    done = train(2, odd_rows, "--model", tiny_folder, *settings(*SHORT), "--budget", "5m", "--out", tmp_path / "run")
    assert done.stderr.count("heedful: --budget is for one process") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused_once(odd_rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train: {}\n")
    done = train(2, odd_rows, "--model", tiny_folder, *settings(*SHORT), "--out", tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("heedful: ") == 1
    assert "already holds a run" in done.stderr


def test_work_is_dealt_evenly_and_wholly() -> None:
    assert deal([5, 3, 3, 1], 2) == [[0, 3], [1, 2]]
    assert deal([7, 7], 1) == [[0, 1]]
    assert deal([4], 3) == [[0], [], []]
    lengths = [90, 5, 40, 40, 7, 30, 11, 60]
    hands = deal(lengths, 3)
    assert sorted(item for hand in hands for item in hand) == list(range(8))
    loads = [sum(lengths[item] for item in hand) for hand in hands]
    assert max(loads) - min(loads) < 10
