"""Scores by row -> evaluation.json: every part in one shape, {"rows", "models", "paired"}. No torch in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from heedful.address import redacted
from heedful.config import Config
from heedful.errors import UsageError, typed
from heedful.evaluate.corpus import corpus_comparison, corpus_interval
from heedful.evaluate.metrics import CORPUS, RATIOS, corpus_score, higher_is_better, is_share
from heedful.evaluate.rows import BASE_AND_TUNED, Cell, RowScores, evaluating, read_rows, unique
from heedful.evaluate.stats import interval, paired_comparison, ratio_interval
from heedful.records import CHECK_PREFIX, Comparison, Score
from heedful.run import Results, Run
from heedful.settings import differences
from heedful.system.atomic import read_json

if TYPE_CHECKING:
    from heedful.evaluate.judge import Verdicts

JUDGE_PREFIX = "judge_"
ON_THE_SAME = "evaluate both with the same --data FILE, and compare them with it."


def evaluation(rows: Sequence[RowScores], decides: str, pair: tuple[str, str] = BASE_AND_TUNED) -> dict[str, Any]:
    """Return every model's scores with intervals and the pair compared row by row; checks, where rows declare them."""
    found = names(cell for row in rows for cell in row.cells.values())
    usual = [name for name in found if not name.startswith((CHECK_PREFIX, JUDGE_PREFIX))]
    result = {"rows": len(rows), "decides": decides, **summary(rows, usual, pair)}
    checks, judged = ([name for name in found if name.startswith(prefix)] for prefix in (CHECK_PREFIX, JUDGE_PREFIX))
    declaring = [row for row in rows if any(name in cell.values for cell in row.cells.values() for name in checks)]
    result |= {"checks": summary(declaring, checks, pair)} if checks else {}
    return result | ({"judge": summary(rows, judged, pair)} if judged else {})


def forgetting(rows: Sequence[RowScores], pair: tuple[str, str] = BASE_AND_TUNED) -> dict[str, Any]:
    """Return the part on the probes: all together, then each family, in the same shape."""
    families = dict.fromkeys(row.family for row in rows)
    return summary(rows, pair=pair) | {
        "families": {family: summary([row for row in rows if row.family == family], pair=pair) for family in families}
    }


def summary(
    rows: Sequence[RowScores], metrics: Sequence[str] | None = None, pair: tuple[str, str] = BASE_AND_TUNED
) -> dict[str, Any]:
    """Return {"rows", "models", "paired"}: every model's scores, and the second of a pair against the first."""
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
    """Return a metric's score over the rows that have it; None if none has."""
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
    return interval(values, is_share(metric))


def comparison(before: Sequence[Cell], after: Sequence[Cell], metric: str) -> Comparison | None:
    """Compare a metric over the rows on which both have it.

    None if there are none, or if a ratio divides by other numbers on the two sides: NLL per token of two tokenizers.
    """
    pairs = list(zip(before, after, strict=True))
    if metric in CORPUS:
        counted = [(a.counts[metric], b.counts[metric]) for a, b in pairs if metric in a.counts and metric in b.counts]
        first, second = [a for a, _ in counted], [b for _, b in counted]
        return corpus_comparison(first, second, lambda sums: corpus_score(metric, sums)) if counted else None
    both = [(a, b) for a, b in pairs if metric in a.values and metric in b.values]
    if not both:
        return None
    base, tuned = [a.values[metric] for a, _ in both], [b.values[metric] for _, b in both]
    if metric not in RATIOS:
        return paired_comparison(base, tuned, higher_is_better(metric), share=is_share(metric))
    weights, others = ([pair[side].weights[RATIOS[metric]] for pair in both] for side in (0, 1))
    if weights != others:
        return None
    sums = [[v * w for v, w in zip(values, weights, strict=True)] for values in (base, tuned)]
    return paired_comparison(sums[0], sums[1], higher_is_better(metric), weights)


def with_verdicts(rows: Sequence[RowScores], verdicts: Mapping[str, Verdicts]) -> list[RowScores]:
    """Put what a judge said, by metric, into the rows' scores, in place of what one said before."""
    told = []
    for i, row in enumerate(_without(rows, JUDGE_PREFIX)):
        cells = {}
        for model, cell in row.cells.items():
            values = dict(cell.values)
            for metric, said in verdicts.items():
                value = said.scores[model][i] if model in said.scores else None
                values |= {metric: value} if value is not None else {}
            cells[model] = replace(cell, values=values)
        told.append(replace(row, cells=cells))
    return told


def _without(rows: Sequence[RowScores], prefix: str) -> list[RowScores]:
    """Leave out of the rows the scores whose names begin so."""

    def rest(cell: Cell) -> Cell:
        return replace(cell, values={name: v for name, v in cell.values.items() if not name.startswith(prefix)})

    return [replace(row, cells={model: rest(cell) for model, cell in row.cells.items()}) for row in rows]


def compare_runs(first: Run, second: Run, common: bool = False, data: str | None = None) -> dict[str, Any]:
    """Compare the tuned models of two runs on the same rows, metric by metric: the second against the first.

    The rows are those that both held back, or those of `data`.

    Raises UsageError if the runs were evaluated on different rows, unless only the `common` ones are wanted.
    """
    pair = (str(first.path), str(second.path))
    if first.path.resolve() == second.path.resolve():
        raise UsageError(f"{first.path} is given as both runs.", "Give two different ones.")
    found = _evaluated(first, data), _evaluated(second, data)
    evaluations = [read_json(results.evaluation_file, f"Run {evaluating(results.path)} again.") for results in found]
    judges = [_judge(told) for told in evaluations]
    apart = judges[0] != judges[1]  # two judges have two scales, and a win is one over a run's own base
    rows = _without(_joined(*found, pair, common), JUDGE_PREFIX if apart else "judge_wins")
    differ = differences(*map(_answered_by, (first, second), evaluations))
    differ.pop("encode.batch_tokens", None)  # fitted to memory when a run starts
    result: dict[str, Any] = {"runs": list(pair), "differences": {leaf: list(both) for leaf, both in differ.items()}}
    if paths := result["differences"].get("data.path"):
        result["differences"]["data.path"] = [redacted(path) for path in paths]
    result |= evaluation(rows, evaluations[0]["decides"], pair)
    notes = []
    if evaluations[0]["decides"] != evaluations[1]["decides"]:
        notes += [f"{second.path} chose {evaluations[1]['decides']} to decide; the first run's choice is taken."]
    if apart and all(judges):
        notes += [f"Their judges differ, {' and '.join(judges)}: what they say is not compared."]
    result |= {"note": " ".join(notes)} if notes else {}
    probes = _probes(*found, pair)
    return result | ({"forgetting": forgetting(probes, pair)} if probes else {})


def _evaluated(run: Run, data: str | None) -> Results:
    results = run.results(data)
    if not results.evaluation_file.is_file():
        run.check_model()
        on, option = (f" on {data}", f" --data {typed(data)}") if data else ("", "")
        raise UsageError(f"{run.path} was not evaluated{on} yet.", f"Run heedful evaluate {typed(run.path)}{option}.")
    return results


def _judge(evaluation: Mapping[str, Any]) -> str:
    """Name who judged a run's answers, if anybody did: a model's name means what its server makes of it."""
    told = evaluation.get("judge", {})
    return f"{told['model']} at {redacted(told['url'], rest='')}" if "model" in told else ""


def _answered_by(run: Run, evaluation: Mapping[str, Any]) -> Config:
    """Return a run's settings, with those that were changed for this evaluation."""
    return run.config(evaluation["of"]["settings"])


def _joined(first: Results, second: Results, pair: tuple[str, str], common: bool) -> list[RowScores]:
    """Put two runs' rows side by side, by what is said in them."""
    sides = [read_rows(run.scores_file) for run in (first, second)]
    by_key = [dict(zip(unique(row.key for row in rows), rows, strict=True)) for rows in sides]
    shared = [key for key in by_key[0] if key in by_key[1]]
    if not shared:
        counts = f"{len(sides[0])} and {len(sides[1])}"
        raise UsageError(
            f"{pair[0]} and {pair[1]} have no row in common ({counts} rows).", f"To compare them, {ON_THE_SAME}"
        )
    if not common and not len(sides[0]) == len(sides[1]) == len(shared):
        raise UsageError(
            f"The runs were evaluated on different rows: {pair[0]} on {len(sides[0])}, {pair[1]} on {len(sides[1])}, "
            f"of which {len(shared)} are the same.",
            f"Add --common to compare on those, or {ON_THE_SAME}",
        )
    return [_side_by_side(by_key[0][key], by_key[1][key], pair) for key in shared]


def _probes(first: Results, second: Results, pair: tuple[str, str]) -> list[RowScores]:
    """Put two runs' probes side by side; none if a run has none."""
    if not (first.probes_file.is_file() and second.probes_file.is_file()):
        return []
    others = {row.key: row for row in read_rows(second.probes_file)}
    rows = [row for row in read_rows(first.probes_file) if row.key in others]
    return [_side_by_side(row, others[row.key], pair) for row in rows]


def _side_by_side(one: RowScores, other: RowScores, pair: tuple[str, str]) -> RowScores:
    return replace(one, cells=dict(zip(pair, (one.cells["tuned"], other.cells["tuned"]), strict=True)))
