"""What test_ranks.py trains on one process and on two, and what it asks of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.processes import Process
from tests.train import trainings
from tests.train.launcher import Launcher

SHORT = ("train.precision=fp32", "evaluate.after_training=false", "generate.max_tokens=3", "train.batch_size=4")
EVEN = ("train.schedule=constant", "train.warmup=0", "train.save_every=2")
SHARDING = {"one": "none", "two": "none", "sharded": "full"}
SMALL = "encode.batch_tokens=256"  # of an update, one rank takes one forward and the other two


def settings(*some: str) -> list[str]:
    return [word for setting in some for word in ("--set", setting)]


def lines(rows: Path, model: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the trainings of one process, of two, and of one again."""

    def training(name: str, how: str, *more: str, data: Path = rows, **other: Any) -> dict[str, Any]:
        wanted = settings(*SHORT, f"train.sharding={SHARDING[how]}", *more)
        first = ["train", str(data), "--model", str(model), "--epochs", "1", *wanted]
        return {"name": f"{name}-{how}", "arguments": first, **other}

    def resumed(before: str, after: str) -> dict[str, Any]:
        more = settings("train.max_steps=7", f"train.sharding={SHARDING[after]}")
        again = ["train", "--resume", *more]
        return {"name": f"resumed-{before}-{after}", "arguments": again, "start": f"part-{before}"}

    course = ("train.evaluate_every=3", "train.save_every=5")
    plan: dict[str, list[dict[str, Any]]] = {"first": [], "two": [], "last": []}
    for how in SHARDING:
        plan["first" if how == "one" else "two"] += [
            training("full", how, SMALL, *course),
            training("lora", how, SMALL, *course, "train.method=lora"),
            training("bf16", how, SMALL, "train.precision=bf16", bf16=True),
            training("part", how, *EVEN, "train.max_steps=4"),
        ]
    plan["first"] += [
        training("whole", "one", *EVEN, "train.max_steps=7"),
        training("alone", "one", "train.sharding=full"),
    ]
    plan["two"] += [
        *(resumed(before, after) for before in SHARDING for after in ("two", "sharded") if before != after),
        training("memory", "two", *course, "encode.layout=padded", memory=256),
        training("many", "two", "train.batch_size=1"),
        training("few", "two", "data.test_share=0", "data.validation_share=0", data=rows.with_name("one.json")),
        training("kind", "two", "train.sharding=half"),
        training("budget", "two"),
        training("again", "two", out="full-two"),
    ]
    next(one for one in plan["two"] if one["name"] == "budget-two")["arguments"] += ["--budget", "5m"]
    # The last, as the other rank learns of it by the end of the process.
    plan["two"].append(training("memory", "sharded", "encode.layout=padded", memory=256))
    plan["last"] += [resumed("two", "one"), resumed("sharded", "one")]
    return plan


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Trained:
    """The trainings' folder, what was said in each, and the exit codes of its ranks."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: dict[str, str] = {}
        self.shown: dict[str, str] = {}

    def perform(self, plan: Path) -> None:
        """Train in one process."""
        process = Process(self.home, trainings.perform_all, plan)
        assert process.wait() == 0, process.stderr
        self.keep(process.stderr, process.stdout)

    def perform_together(self, plan: Path) -> None:
        """Train in two."""
        launcher = Launcher()
        ranks = launcher.start(self.home, trainings.perform_all, plan)
        assert [process.wait() for process in ranks] == [0, 0], [process.stderr for process in ranks]
        for process in ranks:
            self.keep(process.stderr, process.stdout)

    def keep(self, stderr: str, stdout: str) -> None:
        for text, parts in ((stderr, self.said), (stdout, self.shown)):
            for part in text.split("\n== ")[1:]:
                name, _, words = part.partition("\n")
                parts[name] = parts.get(name, "") + words

    def codes(self, name: str) -> list[int]:
        return [int(file.read_text()) for file in sorted(self.home.glob(f"{name}.*.exit"))]

    def events(self, name: str, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in events(self.home / name) if event["event"] in kinds]

    def assert_same_course(self, name: str, other: str, tolerance: float = 1e-5) -> None:
        """The same rows in the same order, and the same numbers; sharded ranks give no samples."""
        ours, theirs = (self.events(each, "step", "validation") for each in (name, other))
        assert [e["event"] for e in ours] == [e["event"] for e in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.keys() == b.keys()
            for key in a.keys() - {"event", "seconds"}:
                assert a[key] == pytest.approx(b[key], rel=tolerance, abs=tolerance), (name, key, a, b)

    def assert_same_model(self, name: str, other: str) -> None:
        ours, theirs = (load_file(self.home / each / "model" / "model.safetensors") for each in (name, other))
        assert ours.keys() == theirs.keys()
        for key, weight in ours.items():
            torch.testing.assert_close(weight, theirs[key], rtol=1e-4, atol=1e-5, msg=key)
