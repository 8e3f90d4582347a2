"""What a race leaves behind: one JSON file with every number that was measured, and what is computed from them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
FP32 = FOLDER / "fp32"  # of processors that multiply fp32 faster than bf16, whose races are `races.in_fp32`
Rounds = list[dict[str, dict[str, Any]]]  # for each round: contestant -> what its process printed


@dataclass(frozen=True)
class Spread:
    """The median over rounds, with the least and the most."""

    median: float
    low: float
    high: float

    def show(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} - {self.high:.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def figures(rounds: Rounds, contestant: str) -> list[float]:
    """Return each round's figure: the median seconds of a unit."""
    return [statistics.median(r[contestant]["seconds"]) for r in rounds if "seconds" in r.get(contestant, {})]


def ratio(rounds: Rounds, slower: str, faster: str) -> Spread | None:
    """Say how many times as long one contestant takes as another: pairs of the same round, and their median."""
    pairs = [r for r in rounds if all("seconds" in r.get(who, {}) for who in (slower, faster))]
    if not pairs:
        return None
    return spread([s / f for s, f in zip(figures(pairs, slower), figures(pairs, faster), strict=True)])


def peak(rounds: Rounds, contestant: str) -> Spread | None:
    """Return the peak memory of a contestant's processes, in GiB."""
    found = [r[contestant]["peak_mib"] / 1024 for r in rounds if "seconds" in r.get(contestant, {})]
    return spread(found) if found else None


def winner(stored: dict[str, Any]) -> str | None:
    """Name the fastest contestant of those that do the same task (`only_shown` marks the others); None if none ran."""
    able: list[str] = [who for who, settings in stored["contestants"].items() if not settings.get("only_shown")]
    ran = {who: figures(stored["rounds"], who) for who in able}
    return min((who for who in able if ran[who]), key=lambda who: statistics.median(ran[who]), default=None)


def load(name: str, folder: Path = FOLDER) -> Any:
    """Read a race's file; None if there is none."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def store(name: str, value: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write a race's file so that a killed run leaves the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.tmp"
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(folder / f"{name}.json")


def same_answers(rounds: Rounds, first: str, other: str) -> float | None:
    """Return the share of the prompts that two contestants answered with the same tokens."""
    for done in rounds:
        if all("answers" in done.get(who, {}) for who in (first, other)):
            a, b = (dict(pair.split(":") for pair in done[who]["answers"].split()) for who in (first, other))
            both = a.keys() & b.keys()
            return sum(a[key] == b[key] for key in both) / len(both) if both else None
    return None
