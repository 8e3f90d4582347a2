"""What a contestant's process does around its work: read the task, keep stdout clean, print one line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.workload import Workload, read


class Missing(Exception):
    """What this contestant needs is not installed; the race goes on without it."""


@dataclass(frozen=True)
class Task:
    """Warm up on the first units of work, then measure the next; a unit is an update of 8 rows, or an answer."""

    workload: Workload
    warm_up: int
    measured: int
    settings: dict[str, Any]
    scratch: Path  # where what is made or installed for the benchmarks lies

    @property
    def units(self) -> int:
        return self.warm_up + self.measured

    @property
    def learn(self) -> str:
        return str(self.settings.get("learn", "response"))


def run(contestant: Callable[[Task], dict[str, Any]]) -> None:
    """Run a contestant; it gives `seconds`, one number for each measured unit, and what else should be known."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--measured", type=int, default=4)
    parser.add_argument("--settings", type=json.loads, default={})
    given = parser.parse_args()
    task = Task(read(given.workload), given.warm_up, given.measured, given.settings, given.workload.parents[1])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = contestant(task)
    except Missing as missing:
        result = {"left_out": str(missing)}
    print(json.dumps({"peak_mib": peak_mib(), **result}))


def peak_mib() -> float:
    """Return the most memory that this process and its children held. (The process that starts it is smaller.)"""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return round(max(resource.getrusage(each).ru_maxrss for each in who) / 1024, 1)  # Linux counts KiB
