"""A run -> one HTML file that needs nothing else: what the run's files tell, shown by the templates beside this module.

The page may run its own script and use its own style, known by their hashes, and may ask no network for anything. All
that comes from data or a model is escaped by Jinja, or packed and set as text by the script.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from heedful import __version__
from heedful.data.datamap import KINDS, LIMITS, last_losses, losses_in_words
from heedful.data.row_losses import RowLosses
from heedful.report import lines
from heedful.report.answers import answered, side_by_side
from heedful.report.card import write_card
from heedful.report.facts import Facts
from heedful.report.figures import histogram_plot, map_plot
from heedful.report.labels import counted
from heedful.report.plots import loss_pictures
from heedful.report.receipt import data_lines, encoding_lines
from heedful.report.scores import NAMES, figures, further, score_table, stop_health, verdict
from heedful.run import Run, slug
from heedful.settings import dump_config
from heedful.system.atomic import atomic_write

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = {
    "curves": "Learning", "scores": "Scores", "answers": "Answers", "data": "Data", "map": "Data map",
    "tokens": "Tokens", "speed": "Speed", "origin": "Origin",
}  # fmt: skip
HELD_BACK = ", and on rows held back. Where the second turns up again, the model begins to memorise."
Part = dict[str, Any]


def write_report(run: Run) -> Path:
    """Write the run's report.html; give its path."""
    atomic_write(run.report_file, report(run))
    return run.report_file


def write_pages(run: Run) -> Path:
    """Write what people read of a run, report.html and the model's card; give the path of the first."""
    path = write_report(run)
    write_card(run)
    return path


def report(run: Run, live: str = "") -> str:
    """Return the page of one run; `live` names the state that a served page is compared by."""
    facts = Facts(run)
    model, data = facts.names
    parts = _parts(facts)
    word, top = lines.progress(facts), []
    if facts.evaluation:
        word = verdict(facts.evaluation, "base", "tuned", "The tuned model", "the base model")
        top = figures(facts.evaluation, "base", "tuned")
    return _render(
        "report.html",
        live,
        title=f"{model} on {data}: {word['word']}",
        over=f"{model}, trained on {data}",
        verdict=word,
        figures=[*top, *_sizes(facts)],
        where=run.path.name,
        sections=[(id, name) for id, name in SECTIONS.items() if id == "origin" or parts[id]],
        **parts,
    )


def compare_page(run_a: Run, run_b: Run, comparison: Mapping[str, Any], data: str | None = None) -> Path:
    """Write the page of two runs into the second; give its path.

    `comparison`, on the rows of `data` where that is named, has the shape of evaluation.json, and `differences`: its
    first model is A, its second B.
    """
    both = Facts(run_a, data), Facts(run_b, data)
    a, b = comparison["models"]
    name_a, name_b = told_apart(run_a.path, run_b.path)
    names, rows = {a: name_a, b: name_b}, comparison["rows"]
    runs = [{"name": name, "curves": _curves(facts)} for name, facts in zip(names.values(), both, strict=True)]
    answers = side_by_side(*both, [name_a, name_b])
    path = both[1].results.path / f"compare-{slug(name_a)}.html"
    html = _render(
        "compare.html",
        title=f"{name_a} and {name_b}",
        over=f"{name_a} (A) and {name_b} (B)",
        verdict=verdict(comparison, a, b, name_b, name_a),
        figures=figures(comparison, a, b),
        where=f"{name_a} and {name_b}",
        sections=[
            ("scores", "Scores"), *([("answers", "Answers")] if answers else []),
            *((f"curves-{k}", run["name"]) for k, run in enumerate(runs, 1) if run["curves"]),
            ("settings", "Settings"),
        ],
        scores=score_table(comparison, names) | {"hint": f"On the same {counted(rows, 'row')}, with 95 % intervals."},
        further=further(comparison, names),
        note=comparison.get("note", ""),
        answers=answers,
        runs=runs,
        differences=lines.apart(comparison["differences"]),
    )  # fmt: skip
    atomic_write(path, html)
    return path


def told_apart(a: Path, b: Path) -> tuple[str, str]:
    """Name two folders by where they part: the runs of a sweep are all called seed-123."""
    a, b = a.resolve(), b.resolve()
    common = os.path.commonpath([a.parent, b.parent])
    return str(a.relative_to(common)), str(b.relative_to(common))


def _parts(facts: Facts) -> Part:
    """Return what each section shows; a section without anything to show is None."""
    evaluation = facts.evaluation
    return {
        "curves": _curves(facts),
        "scores": score_table(evaluation) if evaluation else None,
        "stops": stop_health(evaluation) if evaluation else "",
        "further": further(evaluation) if evaluation else [],
        "answers": answered(facts, NAMES),
        "data": _data(facts),
        "map": _map(facts),
        "tokens": (facts.receipt or {}).get("rows"),
        "speed": lines.speed(facts),
        "settings": lines.settings(facts),
        "command": lines.command(facts),
        "origin": lines.origin(facts),
        "config": dump_config(facts.config),
    }


def _sizes(facts: Facts) -> list[Part]:
    """Return how many rows were learned from."""
    if not facts.receipt:
        return []
    sizes = facts.receipt["data"]["sizes"]
    held = " and ".join(f"{sizes[part]:,} for {part}" for part in ("validation", "test") if sizes[part])
    note = f"held back: {held}" if held else "none held back"
    if facts.rows_learned < sizes["train"]:
        note = f"of {sizes['train']:,}; {note}"
    return [{"name": "Rows learned from", "before": None, "after": f"{facts.rows_learned:,}", "note": note}]


def _curves(facts: Facts) -> Part | None:
    if not facts.events_of("step") and not facts.events_of("validation"):
        return None
    pictures = {
        name: f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
        for name, svg in loss_pictures(facts.events).items()
    }
    hint = "The loss of each update on the rows being learned" + (HELD_BACK if facts.events_of("validation") else ".")
    return {"pictures": pictures, "alt": lines.curves_in_words(facts), "hint": hint}


def _data(facts: Facts) -> Part | None:
    if not facts.receipt or "data" not in facts.receipt:
        return None
    data, encoding = facts.receipt["data"], facts.receipt["encoding"]
    plots = {f"{name}s": histogram_plot(encoding[f"{name}_lengths"]) for name in ("prompt", "answer")}
    return {"rows": data_lines(data), "encoding": encoding_lines(encoding), **plots}


def _map(facts: Facts) -> Part | None:
    """Return the data map: a point for each row, and the rows to look at, which the run keeps with their text."""
    kept = facts.data_map
    if not kept or not kept["look"]:
        return None
    nll, _ = RowLosses(facts.run.row_losses_file, kept["rows"]).per_token()
    if not (epochs := len(nll)):
        return None
    x_name = "loss in the first epoch (nats per token)"
    y_name = "last loss" if epochs > 1 else "the same loss"
    counts = {kind: f"{kept.get(kind, 0):,}" for kind in KINDS.values()}
    alt = f"{counted(kept['trained'], 'row')} learned, by their loss in the " + (
        "first epoch and the last time. Rows under the dotted line became easier." if epochs > 1 else "one epoch made."
    )
    alt += f" {counts['easy']} are easy, {counts['hard']} hard, {counts['suspect']} suspect."
    if kept["trained"] < kept["rows"]:
        alt += f" {counts['unmet']} more were never met, or their loss was not finite."
    look = [{**row, "losses": losses_in_words(row["losses"])} for row in kept["look"][:10]]
    plot = map_plot(nll[0], last_losses(nll), [KINDS[kind] for kind in kept["kinds"]], (x_name, y_name))
    return {"hint": LIMITS, "alt": alt, "look": look, "plot": plot, **counts}


def _render(template: str, live: str = "", **values: Any) -> str:
    script, style = (_text(name) for name in ("page.js", "page.css"))
    news = "connect-src 'self'; " if live else ""
    policy = (
        f"default-src 'none'; img-src data:; {news}style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    html: str = (
        _environment()
        .get_template(template)
        .render(live=live, policy=policy, style=Markup(style), script=Markup(script), version=__version__, **values)
    )
    return html


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


@cache
def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
