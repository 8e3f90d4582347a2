"""Was heedful made slower? An earlier commit against this code, unit by unit in turn.

A race's processes run one after another, and a shared machine changes more in between than most changes to code do.
Here both versions stand ready at once: one does an update (or an answer), then the other does the same, and a ratio is
taken within each such pair.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.heedful_api import in_bf16
from benchmarks.machine import commit, cores, machine, pin, versions
from benchmarks.side import UNITS
from benchmarks.workload import Source

ROOT = Path(__file__).parent.parent
COMPARED = "earlier"  # the file of results
WARM_UP = 4  # pairs: the first updates meet widths for which nothing is allocated yet


class Side:
    """A process of one version. It is ready when it has done a unit."""

    def __init__(self, tree: Path, workload: Path, precision: str, log: Path) -> None:
        path = os.pathsep.join([str(tree / "src"), str(ROOT)])
        command = [sys.executable, "-m", "benchmarks.side", str(workload.resolve()), "--precision", precision]
        with open(log, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
                text=True,
                bufsize=1,
            )
        self.log = log
        self._answer()

    def unit(self) -> float:
        """Let it do its next unit of work; return the seconds that it took."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        return self._answer()

    def _answer(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"A version ended before its turn: see {self.log}.")
        return float(line)

    def end(self) -> None:
        with self.process:  # closes its pipes, and waits
            self.process.kill()


def in_turn(sides: dict[str, Side], pairs: int) -> dict[str, list[float]]:
    """Let both do so many units, the one that begins changing from pair to pair; give the seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(WARM_UP + pairs):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            seconds[name].append(sides[name].unit())
        print(
            f"pair {number}: { ({name: round(s[-1], 4) for name, s in seconds.items()}) }", file=sys.stderr, flush=True
        )
    return {name: s[WARM_UP:] for name, s in seconds.items()}


def compare(earlier: str, name: str, pairs: int, source: Source) -> dict[str, Any]:
    """Measure one workload with both versions."""
    workload = source.scratch / "workloads" / f"earlier-{name}.json"
    given = {**asdict(source), "scratch": str(source.scratch)}
    command = [sys.executable, "-m", "benchmarks.workload", name, "--out", str(workload), "--source", json.dumps(given)]
    subprocess.run(command, check=True)
    precision = "bf16" if in_bf16() else "fp32"
    sides: dict[str, Side] = {}
    try:
        for label, tree in {"earlier": _checkout(earlier, source.scratch), "now": ROOT}.items():
            sides[label] = Side(tree, workload, precision, source.scratch / f"earlier-{name}-{label}.txt")
        seconds = in_turn(sides, pairs)
    finally:
        for side in sides.values():
            side.end()
    return {
        "workload": name,
        "earlier": earlier,
        "now": commit(),
        "precision": precision,
        "machine": machine(),
        "versions": versions(source.scratch),
        "seconds": seconds,
    }


def _checkout(revision: str, scratch: Path) -> Path:
    """Lay an earlier commit's files beside this checkout's."""
    tree = scratch.resolve() / "earlier" / revision
    if not tree.is_dir():
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, revision], check=True)
    return tree


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.earlier", description=__doc__)
    parser.add_argument("earlier", help="a commit, as git names it")
    parser.add_argument("--only", choices=UNITS, action="append")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--data", default="builtin", help="a file of rows, or builtin")
    parser.add_argument("--split", default="leak_aware", choices=["leak_aware", "in_order"])
    parser.add_argument("--results", type=Path, default=results.FOLDER if in_bf16() else results.FP32)
    parser.add_argument("--scratch", type=Path, default=Path(".bench"))
    given = parser.parse_args()
    os.environ |= {**pin(cores()), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    source = Source(given.data, given.split, scratch=given.scratch)
    for name in given.only or UNITS:
        found = compare(given.earlier, name, given.pairs, source)
        stored = (results.load(COMPARED, given.results) or {"compared": []})["compared"]
        kept = [each for each in stored if (each["earlier"], each["workload"]) != (given.earlier, name)]
        results.store(COMPARED, {"compared": [*kept, found]}, given.results)


if __name__ == "__main__":
    main()
