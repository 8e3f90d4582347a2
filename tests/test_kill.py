"""kill -9 at a random step, resume: weights, optimizer and metrics are those of the run that was never interrupted."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from heedful.cli import main
from heedful.train import precision as precisions
from tests.conftest import WORDS
from tests.processes import Process
from tests.train import trainings

KINDS = [("full", "fp32"), ("full", "bf16"), ("lora", "bf16")]


def start(precision: str, home: Path, *words: object) -> Process:
    """Start the command line; bf16 is emulated where the processor lacks it, which only costs time."""
    return Process(home, _command, precision == "bf16", [*map(str, words)])


def _command(narrow: bool, words: list[str]) -> None:
    if narrow:
        precisions.native_bf16 = lambda: True
    main(words)


def events(run: Path) -> list[dict[str, object]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def manifest(run: Path) -> dict[str, str]:
    (last,) = (run / "checkpoints").glob("step-*")
    files = json.loads((last / "MANIFEST.json").read_text())["files"]
    return {name: files[name]["sha256"] for name in ("model.safetensors", "optimizer.safetensors")}


def steps_of(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").read_bytes().count(b'"event": "step"')
    except OSError:
        return 0


def arguments(method: str, precision: str, rows: Path, model: Path) -> list[object]:
    settings = [
        "train.save_every=7", "train.evaluate_every=10", "evaluate.after_training=false", "generate.max_tokens=3",
        f"train.precision={precision}", "model.dropout=0.1",
    ]  # fmt: skip
    asked = [word for setting in settings for word in ("--set", setting)]
    return ["train", rows, "--model", model, "--method", method, "--epochs", 3, *asked]


def kill(process: Process, run: Path) -> int:
    """Kill a training after a random step."""
    at = random.randrange(8, 30)
    while steps_of(run) < at:
        assert process.poll() is None, process.stderr
        time.sleep(0.001)
    process.kill()
    assert not (run / "model").exists(), f"killed too late (at {at})"
    return at


@pytest.fixture(scope="module")
def runs(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill a run of each kind, in a process of its own; then, in one process, which was none of these, train each kind
    whole and resume what was killed: full-fp32, killed-full-fp32, ..."""
    home = tmp_path_factory.mktemp("runs")
    rows = home / "rows.json"
    short = [{"instruction": f"Say {i}.", "output": WORDS[i % 12]} for i in range(120)]
    rows.write_text(json.dumps(short), encoding="utf-8")
    plan: list[dict[str, Any]] = []
    for method, precision in KINDS:
        name, asked = f"{method}-{precision}", [*map(str, arguments(method, precision, rows, tiny_folder))]
        run = home / f"killed-{name}"
        at = kill(start(precision, home, *asked, "--out", run), run)
        (home / f"killed-{name}.at").write_text(str(at))
        again = ["train", "--resume"]
        plan += [
            {"name": name, "arguments": asked, "bf16": precision == "bf16"},
            {"name": f"killed-{name}", "arguments": again, "bf16": precision == "bf16"},
        ]
    (home / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    done = Process(home, trainings.perform_all, home / "plan.json")
    assert done.wait() == 0, done.stderr
    (home / "said").write_text(done.stderr)
    return home


@pytest.mark.parametrize(("method", "precision"), KINDS)
def test_a_killed_run_resumes_bit_for_bit(method: str, precision: str, runs: Path) -> None:
    name = f"killed-{method}-{precision}"
    same, killed, at = runs / f"{method}-{precision}", runs / name, (runs / f"{name}.at").read_text()
    said = (runs / "said").read_text().split(f"\n== {name}\n")[1].split("\n== ")[0]
    assert (runs / f"{name}.0.exit").read_text() == "0", said
    assert "Resuming from step-" in said
    assert events(killed) == events(same), f"killed at {at}"
    assert manifest(killed) == manifest(same), f"killed at {at}"
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (killed, same)]
    assert weights[0] == weights[1]


def test_sigterm_saves_and_exits_with_143(tiny_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    long = ["--epochs", 50, "--set", "train.save_every=10000"]
    process = start("fp32", tmp_path, "train", rows_file, "--model", tiny_folder, "--out", run, *long)
    while steps_of(run) < 3:
        assert process.poll() is None, process.stderr
        time.sleep(0.001)
    second = start("fp32", tmp_path, "train", "--resume", "--out", run)
    assert second.wait() == 2
    assert f"process {process.pid}" in second.stderr
    process.send(signal.SIGTERM)
    assert process.wait() == 143, process.stderr
    assert "--resume" in process.stderr
    assert "Traceback" not in process.stderr
    (saved,) = (run / "checkpoints").glob("step-*")
    assert int(saved.name[5:]) == steps_of(run)
