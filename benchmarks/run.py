"""Run the races that are not stored yet: contestants in turn, each time in a fresh process, all on the same cores.

A race that is stored of another machine, other data, versions or code is run anew, and its figures are replaced.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.heedful_api import in_bf16
from benchmarks.machine import commit, cores, machine, pin, sources, versions
from benchmarks.races import RACES, Contestant, Race, in_fp32, quick
from benchmarks.results import Rounds
from benchmarks.workload import Source

TIMEOUT = 900  # seconds that one contestant's process may take


@dataclass(frozen=True)
class Bench:
    """Where a run reads from, where it writes to, and the environment of its processes."""

    source: Source
    results: Path
    threads: int
    environment: dict[str, str]

    def race(self, race: Race, again: bool) -> None:
        """Run what is missing of a race, in turn, and store it after each process."""
        stored = None if again else results.load(race.name, self.results)
        contestants = {label: self._settled(contestant) for label, contestant in race.contestants.items()}
        frame = self._frame(race, contestants)
        if stored is None or {**stored, "rounds": [], "commit": frame["commit"]} != frame:  # `sources` tells the code
            stored = frame
        for label, result in self._missing(race, contestants, stored["rounds"]):
            result |= self._process(race, label, contestants[label])
            results.store(race.name, stored, self.results)
        print(table(stored), flush=True)

    def _frame(self, race: Race, contestants: dict[str, Contestant]) -> dict[str, Any]:
        """Describe a race before its rounds: a stored one is continued only if all of this is the same."""
        ours = any(contestant.module.startswith("heedful") for contestant in contestants.values())
        return {
            "race": race.name,
            "unit": race.unit,
            "machine": machine(),
            "versions": versions(self.source.scratch),
            "sources": sources() if ours else None,
            "commit": commit() if ours else None,
            "settings": {
                "workload": race.workload,
                "data": Path(self.source.data).name,
                "split": self.source.split,
                "quick": self.source.quick,
                "threads": self.threads,
                "warm_up": race.warm_up,
                "measured": race.measured,
            },
            "contestants": {label: {"module": c.module, **c.settings} for label, c in contestants.items()},
            "rounds": [],
        }

    def _missing(
        self, race: Race, contestants: dict[str, Contestant], rounds: Rounds
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return each contestant that a round lacks, with the place in `rounds` for what it will print."""
        for number in range(race.rounds):
            if number == len(rounds):
                rounds.append({})
            for label in contestants:
                if "seconds" not in rounds[number].get(label, {}):
                    yield label, rounds[number].setdefault(label, {})

    def _settled(self, contestant: Contestant) -> Contestant:
        """Put the settings of a search's winner under the contestant's own."""
        if contestant.best_of is None:
            return contestant
        search = results.load(contestant.best_of, self.results)
        fastest = results.winner(search) if search else None
        if fastest is None:
            raise SystemExit(
                f"Run the race {contestant.best_of} first, to an end: its winner's settings are used here."
            )
        best = {key: value for key, value in search["contestants"][fastest].items() if key != "module"}
        return replace(contestant, settings={**best, **contestant.settings})

    def _workload(self, name: str) -> Path:
        """Make a workload's file, unless it was made from the same source before."""
        given = {**asdict(self.source), "scratch": str(self.source.scratch)}
        path = self.source.scratch / "workloads" / f"{name}-{_digest([given, *_makers()])}.json"
        if not path.is_file():
            command = [sys.executable, "-m", "benchmarks.workload", name, "--out", str(path)]
            subprocess.run([*command, "--source", json.dumps(given)], env=self.environment, check=True)
        return path

    def _process(self, race: Race, label: str, contestant: Contestant) -> dict[str, Any]:
        """Run one contestant once; a contestant that fails is left out of the round with its last line of error."""
        command = [sys.executable, "-m", f"benchmarks.contestants.{contestant.module}", "--workload"]
        command += [
            str(self._workload(race.workload)),
            "--warm-up",
            str(race.warm_up),
            "--measured",
            str(race.measured),
        ]
        command += ["--settings", json.dumps(contestant.settings)]
        log = self.source.scratch / "logs" / f"{race.name}-{contestant.module}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**self.environment, **contestant.settings.get("environment", {})}
        started = time.perf_counter()
        with open(log, "w", encoding="utf-8") as errors:
            ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, env=environment, timeout=TIMEOUT)
        if ran.returncode:
            result: dict[str, Any] = {"left_out": _end_of(ran.returncode, log)}
        else:
            result = json.loads(ran.stdout.splitlines()[-1])
        result["process_seconds"] = round(time.perf_counter() - started, 1)
        print(f"{race.name}: {label}: {_brief(result)}", file=sys.stderr, flush=True)
        return result


def table(stored: dict[str, Any]) -> str:
    """Return medians, and the time of the first contestant over that of each, as lines of text."""
    first, *_ = stored["contestants"]
    lines = [f"{stored['race']}: seconds per {stored['unit']}, median of rounds (least - most)"]
    for label in stored["contestants"]:
        figures = results.figures(stored["rounds"], label)
        against = results.ratio(stored["rounds"], first, label)
        if figures and against:
            shown = results.spread(figures).show(4)
            lines.append(f"  {label:36} {shown:28} {first} / this: {against.show()}")
    return "\n".join(lines)


def _end_of(code: int, log: Path) -> str:
    """Say how a process ended: by a signal, as where memory runs out, or with the last line of its log."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"failed: {lines[-1] if lines else code}"


def _brief(result: dict[str, Any]) -> str:
    if "left_out" in result:
        return f"left out: {result['left_out']}"
    return f"{results.spread(result['seconds']).show(4)} s, {result['peak_mib']:.0f} MiB"


def _makers() -> list[str]:
    """Read the code that makes workloads: when it changes, they are made anew."""
    names = ("workload.py", "documents.py", "models.py", "heedful_api.py")
    return [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in names]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", choices=[race.name for race in RACES])
    parser.add_argument("--data", default="builtin", help="a file of rows, or builtin")
    parser.add_argument("--split", default="leak_aware", choices=["leak_aware", "in_order"])
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, help="more or fewer than each race has")
    parser.add_argument("--quick", action="store_true", help="tiny models: shows that everything runs, no figures")
    parser.add_argument("--again", action="store_true", help="do not keep what is stored")
    parser.add_argument("--results", type=Path, default=results.FOLDER if in_bf16() else results.FP32)
    parser.add_argument("--scratch", type=Path, default=Path(".bench"))
    given = parser.parse_args()
    environment = {**os.environ, **pin(given.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    source = Source(given.data, given.split, given.quick, given.scratch)
    bench = Bench(source, given.results, given.threads, environment)
    for race in RACES:
        if given.only is None or race.name in given.only:
            race = race if in_bf16() else in_fp32(race)
            race = quick(race) if given.quick else race
            bench.race(replace(race, rounds=given.rounds or race.rounds), given.again)


if __name__ == "__main__":
    main()
