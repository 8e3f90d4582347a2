"""The table of a sweep: every variant's scores on the rows that all its runs scored, and which is best.

The p-values of a table are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heedful.errors import UsageError
from heedful.evaluate.metrics import higher_is_better
from heedful.evaluate.rows import Cell, read_rows, unique
from heedful.evaluate.stats import SIGNIFICANCE
from heedful.evaluate.summary import names, paired, score
from heedful.run import Run
from heedful.system.atomic import read_json


@dataclass(frozen=True)
class Variant:
    """One cell of the grid: its settings, and its runs, one a seed."""

    name: str
    settings: Mapping[str, Any]
    runs: tuple[Run, ...]


def table(variants: Sequence[Variant], first: Variant, decides: str) -> dict[str, Any]:
    """Compare every variant with `first`; the winner is the one whose deciding score is best, of equal ones `first`."""
    cells, left_out = _on_common_rows([run for v in variants for run in v.runs])
    seeds = {v.name: [cells[run.path] for run in v.runs] for v in variants}
    default = averaged(seeds[first.name])
    entries = [_entry(v, seeds[v.name], default if v is not first else None, decides) for v in variants]
    _adjust(entries, decides)
    sign = 1 if higher_is_better(decides) else -1
    winner = max(entries, key=lambda entry: (sign * entry["scores"][decides]["value"], entry["name"] == first.name))
    return {
        "rows": len(default), "left_out": left_out, "seeds": len(first.runs), "decides": decides,
        "compared_with": first.name, "winner": winner["name"], "variants": entries,
    }  # fmt: skip


def _on_common_rows(runs: Sequence[Run]) -> tuple[dict[Path, list[Cell]], int]:
    """Return each run's scores of the test rows that every run scored, in one order, and the number of the others."""
    rows = {run.path: read_rows(run.scores_file) for run in runs}
    found = {path: dict(zip(unique(row.key for row in scored), scored, strict=True)) for path, scored in rows.items()}
    every = dict.fromkeys(key for scored in found.values() for key in scored)
    common = [key for key in every if all(key in scored for scored in found.values())]
    if not common:
        raise UsageError(f"No test row was scored by all {len(runs)} runs.", "Choose another --out.")
    unscored = [read_json(run.evaluation_file).get("left_out", {}) for run in runs]
    most = max(len(rows[run.path]) + sum(map(len, why.values())) for run, why in zip(runs, unscored, strict=True))
    cells = {path: [scored[key].cells["tuned"] for key in common] for path, scored in found.items()}
    return cells, max(most, len(every)) - len(common)


def _entry(
    variant: Variant, seeds: Sequence[Sequence[Cell]], default: Sequence[Cell] | None, decides: str
) -> dict[str, Any]:
    """Return a variant's line of the table: its scores, that of each seed, and how it compares."""
    cells = averaged(seeds)
    metrics = names(cells)
    scores = {metric: asdict(found) for metric in metrics if (found := score(cells, metric))}
    return {
        "name": variant.name,
        "settings": dict(variant.settings),
        "runs": [str(run.path) for run in variant.runs],
        "scores": scores,
        "by_seed": [found.value for of_seed in seeds if (found := score(of_seed, decides))],
        "paired": paired(default, cells, metrics) if default is not None else {},
    }


def averaged(seeds: Sequence[Sequence[Cell]]) -> list[Cell]:
    """Average the tuned models' scores of each row over the seeds; counts of corpus scores are added."""
    cells = []
    for found in zip(*seeds, strict=True):
        shared = [metric for metric in found[0].values if all(metric in cell.values for cell in found)]
        values = {metric: float(np.mean([cell.values[metric] for cell in found])) for metric in shared}
        sums = {name: np.sum([cell.counts[name] for cell in found], axis=0).tolist() for name in found[0].counts}
        cells.append(Cell(values, found[0].weights, sums))
    return cells


def _adjust(entries: Sequence[dict[str, Any]], decides: str) -> None:
    """Correct the deciding p-values for their number (Holm 1979): of twenty variants one looks better by chance."""
    pairs = sorted((e["paired"][decides] for e in entries if decides in e["paired"]), key=lambda pair: pair["p_value"])
    largest = 0.0
    for rank, pair in enumerate(pairs):
        largest = max(largest, min(1.0, pair["p_value"] * (len(pairs) - rank)))
        pair["p_value_of_all"] = largest
        if pair["verdict"] in ("better", "worse") and largest >= SIGNIFICANCE:
            pair["verdict"] = f"within noise; of {len(pairs)} variants one may look so by chance"
