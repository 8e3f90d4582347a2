"""evaluation.json in words, and as the table of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedful.address import redacted
from heedful.evaluate.metrics import LOWER_IS_BETTER
from heedful.report.figures import interval_plot
from heedful.report.labels import (
    HUNDREDS,
    LABELS,
    answered_with,
    between,
    counted,
    formatted,
    incomparable,
    label,
    metrics_of,
)

OPEN = {"nll", "bits_per_byte", "length_ratio"}  # without an upper end
NAMES = {"base": "Before", "tuned": "After", "base_own_template": "Before, in its own template"}
FIGURES = ("exact_match", "stopped")  # told at the top of the page, beside the one that decides
DECIDED = {"better": "Better", "worse": "Worse", "within": "Within noise"}


def probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def tone(verdict: str) -> str:
    """Return the first word of a verdict that has a colour."""
    return verdict if verdict in ("better", "worse") else ""


def score_table(evaluation: Mapping[str, Any], names: Mapping[str, str] = NAMES) -> dict[str, Any]:
    """Lay out the scores of all models, with their intervals as pictures."""
    models: Mapping[str, Mapping[str, Any]] = evaluation["models"]
    order = sorted(models, key=lambda name: name == "tuned")  # what came out stands last
    metrics = sorted(metrics_of(models), key=lambda metric: metric != evaluation.get("decides"))
    return {
        "columns": [names.get(name, name) for name in order],
        "rows": [_score_row(evaluation, metric, order, names) for metric in metrics],
        "hint": f"{on_rows(evaluation)}, with 95 % intervals; pp are percentage points.",
    }


def on_rows(evaluation: Mapping[str, Any]) -> str:
    """Say on which rows the scores are, and with which settings if they are not the run's."""
    return f"On {counted(evaluation['rows'], 'row')} held back{answered_with(evaluation)}"


def _score_row(
    evaluation: Mapping[str, Any], metric: str, order: Sequence[str], names: Mapping[str, str]
) -> dict[str, Any]:
    scores = [evaluation["models"][name].get(metric) for name in order]  # None where a model has no such score
    ends = [
        end for score in scores if score for end in (score["low"], score["value"], score["high"]) if end is not None
    ]
    top = max(ends) * 1.02 if metric in OPEN else 100 if metric in HUNDREDS else 1
    rows = evaluation["rows"]
    cells = [
        score
        and {name: formatted(metric, score[name]) for name in ("value", "low", "high")}
        | {"below": _below(between(metric, score, " – "), score, rows)}
        for score in scores
    ]
    spoken = (
        f"{names.get(name, name)} {cell['value']}" + (f" ({cell['low']} to {cell['high']})" if cell["low"] else "")
        for name, cell in zip(order, cells, strict=True)
        if cell
    )
    return {
        "name": label(metric),
        "hint": LABELS.get(metric, ("", ""))[1],
        "decides": metric == evaluation.get("decides"),
        "cells": cells,
        "plot": interval_plot(scores, min(0.0, *ends), max(top, *ends)),
        "alt": f"{label(metric)}: {'; '.join(spoken)}",
        "pair": _pair(metric, evaluation.get("paired", {}).get(metric), rows),
    }


def _below(interval: str, score: Mapping[str, Any], rows: int) -> str:
    """Write what stands below a score: its interval, and "n = 7" if it rests on fewer rows than there are."""
    n = f"n = {score['n']:,}" if score.get("n", rows) < rows else ""
    return ", ".join(filter(None, (interval, n)))


def _pair(metric: str, pair: Mapping[str, Any] | None, rows: int) -> dict[str, str] | None:
    if pair is None:
        return None
    numbers = {name: formatted(metric, pair[name], sign=True) for name in ("difference", "low", "high")}
    verdict = pair["verdict"]
    return {
        **numbers,
        "p": probability(pair["p_value"]),
        "verdict": verdict,
        "tone": tone(verdict),
        "below": _below(between(metric, pair, " to ", sign=True), pair, rows),
    }


FURTHER = {  # parts of an evaluation that may be there -> their names, what they are, and what their rows are
    "checks": ("What rows ask for in so many words", "Constraints that rows declare, checked by code on {}.", "row"),
    "judge": ("What a judge says", "A model was asked about the answers to {}.", "row"),
    "forgetting": ("Did it forget?", "{} that have nothing to do with the data, asked of both.", "short question"),
}
SHAPE = {"rows", "models", "paired", "families"}


def further(evaluation: Mapping[str, Any], names: Mapping[str, str] = NAMES) -> list[dict[str, Any]]:
    """Lay out the parts that an evaluation may have besides its own scores, each in the same shape as the whole."""
    parts = []
    for key, (name, hint, noun) in FURTHER.items():
        part = evaluation.get(key)
        if not part or not part.get("models"):
            continue
        families = [
            {"name": family.replace("_", " "), "table": score_table(own, names)}
            for family, own in part.get("families", {}).items()
        ]
        others = [(fact.replace("_", " "), _fact(fact, value)) for fact, value in part.items() if fact not in SHAPE]
        table = score_table(part, names)
        hint = hint.format(counted(part["rows"], noun))
        parts.append({"name": name, "hint": hint, "table": table, "facts": others, "families": families})
    return parts


def _fact(name: str, value: Any) -> str:
    return redacted(value) if name == "url" else plainly(value)  # an earlier version stored what may be a key there


def plainly(value: Any) -> str:
    """Write a value of JSON as a person would."""
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {plainly(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plainly, value))
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def verdict(evaluation: Mapping[str, Any], before: str, after: str, subject: str, other: str) -> dict[str, str]:
    """Say what the score that decides allows to say."""
    metric, models = evaluation["decides"], evaluation["models"]
    pair = evaluation.get("paired", {}).get(metric)
    if pair is None and before in models:
        return {"word": "Scored", "sentence": incomparable(subject, other, metric)}
    if pair is None:
        return {"word": "Scored", "sentence": f"There is nothing to compare {subject} with."}
    values = [formatted(metric, models[name][metric]["value"]) for name in (before, after)]
    word = DECIDED.get(pair["verdict"].split()[0], pair["verdict"])
    change = f"{'fell' if pair['difference'] < 0 else 'rose'} from {values[0]} to {values[1]}"
    if values[0] == values[1]:
        change = f"stayed at {values[0]}"
    ends = between(metric, pair, " to ", sign=True)
    measured = (
        f"{label(metric)}, chosen before to decide, {change} "
        f"({formatted(metric, pair['difference'], True)}; {f'95 % interval {ends}; ' if ends else ''}"
        f"p {probability(pair['p_value'])}) "
        f"on {counted(evaluation['rows'], 'row')}."
    )
    claims = {
        "Better": f"{subject} is better than {other}, beyond what chance would give.",
        "Worse": f"{subject} is worse than {other}, beyond what chance would give.",
    }
    claim = claims.get(word, f"{subject} and {other} cannot be told apart: {pair['verdict']}.")
    return {"word": word, "sentence": f"{claim} {measured}"}


def figures(evaluation: Mapping[str, Any], before: str, after: str) -> list[dict[str, Any]]:
    """Return the few numbers that stand at the top."""
    chosen = list(dict.fromkeys([evaluation["decides"], *FIGURES]))
    models = evaluation["models"]
    return [
        {
            "name": label(metric),
            "before": formatted(metric, models[before][metric]["value"]),
            "after": formatted(metric, models[after][metric]["value"]),
            "note": _direction(metric),
        }
        for metric in chosen
        if metric in models.get(before, {}) and metric in models.get(after, {})
    ]


def _direction(metric: str) -> str:
    return "lower is better" if metric in LOWER_IS_BETTER else "higher is better"


def stop_health(evaluation: Mapping[str, Any]) -> str:
    """Say in a sentence how answers ended."""
    scores = evaluation["models"].get("tuned", {})
    if not {"stopped", "length_capped", "looped"} <= scores.keys():
        return ""
    counts = {name: round(scores[name]["value"] * scores[name]["n"]) for name in ("stopped", "length_capped", "looped")}
    n = scores["stopped"]["n"]
    low = formatted("stopped", scores["stopped"]["low"])
    return (
        f"After training, {counts['stopped']:,} of {n:,} answers end by themselves (at least {low} of all, at 95 %), "
        f"{counts['length_capped']:,} are cut at the limit, and {counts['looped']:,} fall into a loop."
    )
