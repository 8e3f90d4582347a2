"""Counts and times of a server, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from heedful.serve.scheduler import Scheduler

BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # seconds


@dataclass
class Histogram:
    """How many measured times were at most each bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[sum(bound < seconds for bound in BOUNDS)] += 1
        self.total += seconds

    def lines(self, name: str) -> list[str]:
        so_far = [sum(self.counts[: i + 1]) for i in range(len(self.counts))]
        bounds = [*map(str, BOUNDS), "+Inf"]
        buckets = [f'{name}_bucket{{le="{bound}"}} {n}' for bound, n in zip(bounds, so_far, strict=True)]
        return [*buckets, f"{name}_sum {self.total:.6f}", f"{name}_count {so_far[-1]}"]


@dataclass
class Counters:
    """Counts since the start; only the event loop's thread writes here."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)  # by route and status
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)  # by model, and read or written
    finished: Counter[tuple[str, str]] = field(default_factory=Counter)  # by model and reason
    abandoned: int = 0
    first_token: Histogram = field(default_factory=Histogram)
    answer: Histogram = field(default_factory=Histogram)

    def add_answer(self, model: str, read: int, written: int, reason: str) -> None:
        self.tokens[model, "prompt"] += read
        self.tokens[model, "completion"] += written
        self.finished[model, reason] += 1

    def text(self, scheduler: Scheduler) -> str:
        """Write everything down in Prometheus' text format."""
        requests = {f'route="{route}",status="{status}"': n for (route, status), n in self.requests.items()}
        tokens = {f'model="{escaped(model)}",kind="{kind}"': n for (model, kind), n in self.tokens.items()}
        finished = {f'model="{escaped(model)}",reason="{why}"': n for (model, why), n in self.finished.items()}
        lines = [
            *_family("heedful_requests_total", "counter", "HTTP requests.", requests),
            *_family("heedful_tokens_total", "counter", "Tokens of whole answers and of their prompts.", tokens),
            *_family("heedful_answers_total", "counter", "Whole answers, by what ended them.", finished),
            *_family("heedful_abandoned_total", "counter", "Requests that ended unanswered.", {"": self.abandoned}),
            *_family("heedful_running", "gauge", "Answers being written.", {"": scheduler.running}),
            *_family("heedful_waiting", "gauge", "Answers waiting for a place.", {"": scheduler.waiting}),
            *_family("heedful_first_token_seconds", "histogram", "From a request to its first token.", {}),
            *self.first_token.lines("heedful_first_token_seconds"),
            *_family("heedful_answer_seconds", "histogram", "From a request to its whole answer.", {}),
            *self.answer.lines("heedful_answer_seconds"),
        ]
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, what: str, values: dict[str, int]) -> list[str]:
    lines = [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in values.items()]
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *lines]


def escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
