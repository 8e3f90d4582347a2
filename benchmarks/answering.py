"""What all contestants that answer have in common: which prompts, and how their time is reported."""

from __future__ import annotations

import hashlib
from typing import Any

from benchmarks.child import Task

LONGEST = 256  # tokens of an answer, as in the tutorial


def prompts(task: Task) -> dict[int, list[int]]:
    """Return the prompts to answer, by their number; `every` leaves most out for those who would take too long."""
    return dict(list(enumerate(task.workload.prompts))[: task.measured : task.settings.get("every", 1)])


def longest(task: Task) -> int:
    return int(task.settings.get("tokens", LONGEST))


def stop_ids(task: Task) -> list[int]:
    """Return what ends an answer; with `tokens` nothing does, so that every contestant's answer is as long."""
    return [] if "tokens" in task.settings else task.workload.stop_ids


def together(seconds: float, answers: dict[int, list[int]]) -> dict[str, Any]:
    """Report prompts that were answered as one piece of work: seconds per token, the stop token counted."""
    tokens = sum(map(len, answers.values()))
    return {"seconds": [seconds / tokens], "tokens": tokens, "answers": _digests(answers)}


def apart(seconds: list[float], answers: dict[int, list[int]]) -> dict[str, Any]:
    """Report prompts that were answered one after another: seconds per token of each, reading the prompt included."""
    each = [s / len(ids) for s, ids in zip(seconds, answers.values(), strict=True)]
    return {"seconds": each, "tokens": sum(map(len, answers.values())), "answers": _digests(answers)}


def _digests(answers: dict[int, list[int]]) -> str:
    """Shorten answers to what tells whether two contestants gave the same: "0:1f3a 1:90bc"."""
    return " ".join(f"{number}:{hashlib.sha256(repr(ids).encode()).hexdigest()[:4]}" for number, ids in answers.items())
