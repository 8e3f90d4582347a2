"""What each row scored, as it lies in scores.jsonl: enough to compare models and runs without scoring again.

A line is {"id", "place", "key", "models": {model: {metric: value}}, "weights", "counts"}, the last two by model too:
what a row weighs in a ratio, and what it adds to a corpus score.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heedful.errors import RunError
from heedful.evaluate.metrics import CORPUS, RATIOS, corpus_score, higher_is_better
from heedful.evaluate.stats import compare, corpus_compare, corpus_interval, interval, ratio_interval
from heedful.records import Comparison, Conversation, Score
from heedful.run import EVALUATIONS, Results, atomic_write, read_json

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
            f"Run {_scoring(path.parent)}.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"Cannot read {path}: {error!r}.", f"Run {_scoring(path.parent)} again.") from error


def _scoring(results: Path) -> str:
    """Give the command that writes these results; those on other rows lie in the folder `evaluations` of their run."""
    if results.parent.name != EVALUATIONS:
        return f"heedful evaluate {shlex.quote(str(results))}"
    try:
        data = str(read_json(Results(results).evaluation_file)["of"]["data"])
    except (RunError, KeyError, TypeError):
        data = "FILE"
    return f"heedful evaluate {shlex.quote(str(results.parent.parent))} --data {shlex.quote(data)}"


def _row(line: Mapping[str, Any]) -> RowScores:
    cells = {
        model: Cell(values, line["weights"].get(model, {}), line["counts"].get(model, {}))
        for model, values in line["models"].items()
    }
    return RowScores(line["id"], line["place"], line["key"], cells, line.get("family", ""))


def summary(
    rows: Sequence[RowScores], metrics: Sequence[str] | None = None, pair: tuple[str, str] = BASE_AND_TUNED
) -> dict[str, Any]:
    """Give {"rows", "models", "paired"}: every model's scores, and the second of a pair against the first."""
    columns = {model: [row.cells[model] for row in rows] for model in (rows[0].cells if rows else {})}
    named = metrics if metrics is not None else names(cell for cells in columns.values() for cell in cells)
    result: dict[str, Any] = {"rows": len(rows), "models": {}, "paired": {}}
    for model, cells in columns.items():
        scores = {metric: score(cells, metric) for metric in named}
        result["models"][model] = {metric: asdict(found) for metric, found in scores.items() if found}
    if columns.keys() >= set(pair):
        result["paired"] = paired(columns[pair[0]], columns[pair[1]], named)
    return result


def names(cells: Iterable[Cell]) -> list[str]:
    """List every metric of some cells, in the order in which they come; corpus scores last."""
    found: dict[str, None] = {}
    corpus: dict[str, None] = {}
    for cell in cells:
        found |= dict.fromkeys(cell.values)
        corpus |= dict.fromkeys(cell.counts)
    return [*found, *corpus]


def paired(before: Sequence[Cell], after: Sequence[Cell], metrics: Iterable[str]) -> dict[str, Any]:
    """Compare two models on the same rows, metric by metric."""
    found = {metric: comparison(before, after, metric) for metric in metrics}
    return {metric: asdict(compared) for metric, compared in found.items() if compared}


def score(cells: Sequence[Cell], metric: str) -> Score | None:
    """Give a metric's score over the rows that have it; None if none has."""
    if metric in CORPUS:
        counts = [cell.counts[metric] for cell in cells if metric in cell.counts]
        return corpus_interval(counts, lambda sums: corpus_score(metric, sums)) if counts else None
    having = [cell for cell in cells if metric in cell.values]
    if not having:
        return None
    values = [cell.values[metric] for cell in having]
    if metric in RATIOS:
        weights = [cell.weights[RATIOS[metric]] for cell in having]
        return ratio_interval([v * w for v, w in zip(values, weights, strict=True)], weights)
    return interval(values)


def comparison(before: Sequence[Cell], after: Sequence[Cell], metric: str) -> Comparison | None:
    """Compare a metric over the rows on which both have it.

    None if there are none, or if a ratio divides by other numbers on the two sides: NLL per token of two tokenizers.
    """
    pairs = list(zip(before, after, strict=True))
    if metric in CORPUS:
        counted = [(a.counts[metric], b.counts[metric]) for a, b in pairs if metric in a.counts and metric in b.counts]
        first, second = [a for a, _ in counted], [b for _, b in counted]
        return corpus_compare(first, second, lambda sums: corpus_score(metric, sums)) if counted else None
    both = [(a, b) for a, b in pairs if metric in a.values and metric in b.values]
    if not both:
        return None
    base, tuned = [a.values[metric] for a, _ in both], [b.values[metric] for _, b in both]
    if metric not in RATIOS:
        return compare(base, tuned, higher_is_better(metric))
    weights, others = ([pair[side].weights[RATIOS[metric]] for pair in both] for side in (0, 1))
    if weights != others:
        return None
    sums = [[v * w for v, w in zip(values, weights, strict=True)] for values in (base, tuned)]
    return compare(sums[0], sums[1], higher_is_better(metric), weights)
