"""What each row scored, as it lies in scores.jsonl: enough to compare models and runs without scoring again.

A line is {"id", "place", "key", "models": {model: {metric: value}}, "weights", "counts"}, the last two by model too:
what a row weighs in a ratio, and what it adds to a corpus score. That of a probe has its "family" too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.errors import RunError, typed
from heedful.records import Conversation
from heedful.run import EVALUATIONS, Results
from heedful.system.atomic import atomic_write, read_json

Values = Mapping[str, float]
BASE_AND_TUNED = "base", "tuned"


@dataclass(frozen=True)
class Cell:
    """What one model scored on one row."""

    values: Values  # by metric
    weights: Values = field(default_factory=dict)  # of the metrics that are ratios, by what they divide by
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)  # of the corpus scores


@dataclass(frozen=True)
class RowScores:
    """One row under every model. Rows of equal conversations have equal keys, in whatever file they stand."""

    id: str
    place: str
    key: str
    cells: Mapping[str, Cell]
    family: str = ""  # of a probe

    def as_dict(self) -> dict[str, Any]:
        named = {
            "id": self.id,
            "place": self.place,
            "key": self.key,
            **({"family": self.family} if self.family else {}),
        }
        parts = {"models": "values", "weights": "weights", "counts": "counts"}
        return named | {
            part: {model: dict(getattr(cell, name)) for model, cell in self.cells.items()}
            for part, name in parts.items()
        }


def key_of(conversation: Conversation) -> str:
    """Hash what is said in a conversation."""
    said = [[m.role, m.content, m.input] for m in conversation.messages]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()[:16]


def response_key(model: str) -> str:
    """Name the field of responses.json that holds a model's answer."""
    return "model_response" if model == "tuned" else f"{model}_response"


def unique(keys: Iterable[str]) -> list[str]:
    """Tell rows that stand twice apart: [a, b, a] gives [a:1, b:1, a:2]."""
    seen: Counter[str] = Counter()
    named = []
    for key in keys:
        seen[key] += 1
        named.append(f"{key}:{seen[key]}")
    return named


def write_rows(path: Path, rows: Sequence[RowScores]) -> None:
    atomic_write(path, "".join(json.dumps(row.as_dict(), ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path) -> list[RowScores]:
    """Read scores.jsonl; RunError if it is not there or not whole."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would part a name at U+2028
        return [_row(json.loads(line)) for line in lines if line]
    except FileNotFoundError as error:
        raise RunError(
            f"{path.parent} holds no {path.name}: it was not evaluated yet.",
            f"Run {evaluating(path.parent)}.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"Cannot read {path}: {error}.", f"Run {evaluating(path.parent)} again.") from error


def answered(stored: Results, rows: Sequence[Conversation]) -> list[Conversation]:
    """Return those of the rows that were answered; none if the stored answers are to others."""
    if not all(file.is_file() for file in (stored.scores_file, stored.responses_file, stored.evaluation_file)):
        return []
    keys = deque(row.key for row in read_rows(stored.scores_file))
    found = [row for row in rows if keys and keys[0] == key_of(row) and keys.popleft()]
    left_out = sum(map(len, read_json(stored.evaluation_file).get("left_out", {}).values()))
    return [] if keys or len(found) + left_out != len(rows) else found


def evaluating(results: Path) -> str:
    """Return the command that writes these results; those on other rows lie in their run's `evaluations`."""
    if results.parent.name != EVALUATIONS:
        return f"heedful evaluate {typed(results)}"
    try:
        data = str(read_json(Results(results).evaluation_file)["of"]["data"])
    except (RunError, KeyError, TypeError):
        data = "FILE"
    return f"heedful evaluate {typed(results.parent.parent)} --data {typed(data)}"


def _row(line: Mapping[str, Any]) -> RowScores:
    cells = {
        model: Cell(values, line["weights"].get(model, {}), line["counts"].get(model, {}))
        for model, values in line["models"].items()
    }
    return RowScores(line["id"], line["place"], line["key"], cells, line.get("family", ""))
