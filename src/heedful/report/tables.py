"""Scores in the terminal: a line a score, narrow enough for 80 columns, with the intervals where there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from heedful.clean import clean
from heedful.report import screen
from heedful.report.labels import answered_with, counted, formatted, incomparable, label, metrics_of
from heedful.report.lines import written
from heedful.report.screen import shorten

ON_THE_PAGE = {  # and not here, where they would be too many
    "normalised_match", "bleu", "corpus_chrf", "length_ratio", "distinct_1", "distinct_2", "length_capped",
}  # fmt: skip
ROOMY = 72  # columns that the interval of a difference, which matters most, has room in
COLOURS = {"better": "green", "worse": "red", "within noise": "dim"}


def show_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Print the scores of every model with their intervals, and what may be said of the difference."""
    of = evaluation["of"]
    where = "" if of["rows"] == "held back" else f" of {clean(of['data'])}"
    rows = counted(evaluation["rows"], "row" if where else "test row")
    how = clean(answered_with(evaluation))
    _show_scores(f"Scores on {rows}{where}{how}", evaluation, "tuned - base")
    _show_parts(evaluation, "tuned - base")
    screen.out.print(
        "* decides, chosen before. NLL: nats per token, lower is better. pp: percentage points.", style="dim"
    )


def show_comparison(result: Mapping[str, Any]) -> None:
    """Print two runs' scores side by side, and which of their settings differ."""
    for leaf, (first, second) in result["differences"].items():
        screen.out.print(Text(clean(f"{leaf}: {written(first)} and {written(second)}"), style="dim"))
    _show_scores(f"Scores on {counted(result['rows'], 'row')} that both answered", result, "second - first")
    _show_parts(result, "second - first")
    if "note" in result:
        screen.out.print(Text(clean(result["note"])))
    screen.out.print(Text(clean(_decided(result))), soft_wrap=True)


def show_sweep(result: Mapping[str, Any]) -> None:
    """Print one line a variant: its scores, and how it compares with the default, or else with the first."""
    out, decides = screen.out, result["decides"]
    of_seeds = f", means over {result['seeds']} seeds" if result["seeds"] > 1 else ""
    shown = [decides, *(metric for metric in ("nll", "exact_match", "rouge_l", "chrf") if metric != decides)]
    beside = "- default" if result["default"] else "- first"
    table = _table(
        f"Sweep on {counted(result['rows'], 'test row')}{of_seeds}", ["variant", *map(label, shown), beside, "p"]
    )
    table.add_column("verdict", overflow="fold")
    open_questions = []
    for entry in result["variants"]:
        marks = [entry["name"] == result[role] for role in ("default", "winner")]
        variant = entry["name"] + " (default)" * marks[0] + " <-" * marks[1]
        pair = entry["paired"].get(decides)
        scores = (_written(metric, entry["scores"][metric]["value"]) for metric in shown)
        told = (
            [_written(decides, pair["difference"], True), _probability(pair.get("p_value_of_all", pair["p_value"]))]
            if pair
            else ["", ""]
        )
        verdict, to_tell = _parts(pair["verdict"] if pair else "")
        open_questions += [f"{entry['name']}: {to_tell}."] if to_tell else []
        table.add_row(Text(clean(variant)), *scores, *told, verdict)
    out.print(table)
    for text in open_questions:
        out.print(Text(clean(text), style="dim"))
    if diverged := result["diverged"]:
        out.print(f"Left out, as they diverged: {', '.join(diverged)}.", soft_wrap=True)
    if left_out := result["left_out"]:
        out.print(f"Test rows left out, as not every run scored them: {left_out:,}.", soft_wrap=True)
    if not result["default"]:
        first = f"None of them is the default: each is compared with the first, {result['compared_with']}."
        out.print(first, soft_wrap=True)
    out.print(f"{label(decides)} decides, chosen before. The winner's recipe: {result['recipe']}", soft_wrap=True)
    caution = "another training may differ by its seed alone"
    out.print(f"p and verdict are of these trainings, on other rows like these; {caution}.", style="dim")


def _decided(result: Mapping[str, Any]) -> str:
    """Say what the score that decides says of two runs."""
    first, second = result["runs"]
    pair = result["paired"].get(result["decides"])
    if pair is None:
        return incomparable(second, first, result["decides"])
    verdict = {"better": "is better than", "worse": "is worse than"}.get(pair["verdict"], "and")
    rest = "" if pair["verdict"] in ("better", "worse") else f": {pair['verdict']}"
    return f"{second} {verdict} {first}{rest}, by {label(result['decides'])}, which decides."


def _show_parts(evaluation: Mapping[str, Any], difference: str) -> None:
    """Print what an evaluation holds besides the scores of the answers."""
    if "checks" in evaluation:
        part = evaluation["checks"]
        _show_scores(f"Constraints kept, on {counted(part['rows'], 'row')} with some", part, difference)
    if "judge" in evaluation:
        part = evaluation["judge"]
        by = f" by {clean(part['model'])}" if "model" in part else ""
        _show_scores(f"Judged{by} on {counted(part['rows'], 'row')}", part, difference)
        if by_order := part.get("decided_by_order"):
            of = counted(part.get("pairs_read", part["rows"]), "pair")
            screen.out.print(f"{by_order} of {of} decided by the order alone: a half for each side.", style="yellow")
        if equal := part.get("equal_answers"):
            told = f"{counted(equal, 'row')} with equal answers: a half for each side, without a question."
            screen.out.print(told, style="dim")
        if "asked" in part:
            tokens = part["tokens"]["prompt"] + part["tokens"]["completion"]
            text = f"{part['unscored']} of {part['asked']} replies could not be scored"
            text += f"; {tokens:,} tokens in all." if tokens else "."  # not every server counts them
            screen.out.print(text, style="dim" if not part["unscored"] else "yellow")
        for entry in part.get("unscored_examples", ()):
            told = entry.get("reason") or f"the reply {entry['reply']!r}"
            screen.out.print(Text(clean(f"  {entry['place']}, {entry['model']}: {shorten(told, 120)}"), style="dim"))
    if "forgetting" in evaluation:
        part = evaluation["forgetting"]
        title = f"Forgetting, by {part['rows']} questions with four answers each"
        _show_scores(title, part, difference, "questions")


def _show_scores(title: str, part: Mapping[str, Any], difference: str, asked: str = "rows") -> None:
    """Print one part, and below it what it would take to tell what cannot be told."""
    if not part["models"]:
        return
    table = _score_table(title, part, difference, own=True, of_difference=True)
    if _width(table) > screen.out.width:
        table = _score_table(title, part, difference, own=False, of_difference=screen.out.width >= ROOMY)
    screen.out.print(table)
    for metric in metrics_of(part["models"]):
        pair = part["paired"].get(metric)
        _, to_tell = _parts(pair["verdict"] if pair else "")
        for told in (_fewer(metric, part, difference), to_tell):
            if told and metric not in ON_THE_PAGE:
                screen.out.print(f"{label(metric)}: {told.replace('rows', asked)}.", style="dim")
    screen.out.print()


def _fewer(metric: str, part: Mapping[str, Any], difference: str) -> str:
    """Say on how many rows a score rests, if not on all of the part's."""
    found = {_column(model): scores[metric] for model, scores in part["models"].items() if metric in scores}
    found |= {difference: part["paired"][metric]} if metric in part["paired"] else {}
    counts = {name: score.get("n", part["rows"]) for name, score in found.items()}
    if min(counts.values()) >= part["rows"]:
        return ""
    if len(set(counts.values())) == 1:
        return f"on {counted(min(counts.values()), 'row')}"
    return ", ".join(f"{name} on {counted(n, 'row')}" for name, n in counts.items())


def _score_table(title: str, part: Mapping[str, Any], difference: str, own: bool, of_difference: bool) -> Table:
    """Lay out a line a score, with the intervals of the models' `own` scores and `of_difference`, or without."""
    models = part["models"]
    shown = ", with 95 % intervals" if own or of_difference else ""
    table = _table(f"{title}{shown}", ["", *map(_column, models), difference])
    table.add_column("verdict", overflow="fold")
    for metric in metrics_of(models):
        if metric in ON_THE_PAGE:
            continue
        pair = part["paired"].get(metric)
        change = _cell(metric, pair | {"value": pair["difference"]}, of_difference, True) if pair else ""
        decides = metric == part.get("decides")
        cells = (_cell(metric, scores.get(metric), own) for scores in models.values())
        verdict, _ = _parts(pair["verdict"] if pair else "")
        table.add_row(label(metric) + " *" * decides, *cells, change, verdict, style="bold" if decides else "")
    return table


def _width(table: Table) -> int:
    """Return the columns that a table takes if no line of it is wrapped but its heads."""
    table.show_header = False
    width = screen.out.measure(table, options=screen.out.options.update(width=10_000)).maximum
    table.show_header = True
    return width


def _parts(verdict: str) -> tuple[Text, str]:
    """Part a verdict from what it would take to tell."""
    word, _, to_tell = verdict.partition("; ")
    return Text(word, style=COLOURS.get(word, "")), to_tell


def _probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _column(model: str) -> str:
    """Head a model's column, in words that a narrow terminal can wrap."""
    return "base in its own template" if model == "base_own_template" else clean(model)


def _table(title: str, columns: list[str]) -> Table:
    """Make a table whose first column is a name, and the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
    table.padding = (0, 1, 0, 0)
    for k, name in enumerate(columns):
        last = k == len(columns) - 1
        table.add_column(name, justify="right" if k else "left", no_wrap=last, overflow="fold")
    return table


def _cell(metric: str, score: Mapping[str, Any] | None, interval: bool, sign: bool = False) -> str:
    """Write a score, and its interval in the same unit: 23.6 % [16.7, 32.4]."""
    if score is None:
        return ""
    text = _written(metric, score["value"], sign)
    ends = [_written(metric, end, sign).split(" ")[0] for end in (score["low"], score["high"]) if end is not None]
    return f"{text} [{', '.join(ends)}]" if interval and ends else text


def _written(metric: str, value: float, sign: bool = False) -> str:
    """Write a score in characters that can be typed."""
    return formatted(metric, value, sign).replace("\u2212", "-").replace("\u00a0", " ")
