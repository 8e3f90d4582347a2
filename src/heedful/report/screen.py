"""What a person sees in the terminal: results on stdout, progress on stderr. No torch in here."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from heedful.clean import clean
from heedful.records import Segment
from heedful.report.console import Screen
from heedful.report.console import err as err
from heedful.report.console import out as out
from heedful.report.labels import answered_with, incomparable, label, metrics_of
from heedful.streams import knows_unicode

ON_THE_PAGE = {  # alone: scores that would be too many here
    "normalised_match", "bleu", "corpus_chrf", "length_ratio", "distinct_1", "distinct_2", "length_capped",
}  # fmt: skip


def say(text: str) -> None:
    """Tell about progress in one line on stderr, which the terminal wraps: a path in it can be copied whole."""
    err.print(clean(text), style="dim", soft_wrap=True)


def show_json(value: Any, indent: int | None = 1) -> None:
    """Print JSON that a program can read, whatever stdout's encoding."""
    out.out(json.dumps(value, indent=indent, ensure_ascii=not knows_unicode()), highlight=False)


def show_receipt(receipt: Mapping[str, Any]) -> None:
    """Print what became of each row of the data."""
    data, encoding = receipt["data"], receipt["encoding"]
    title = f"Receipt of {clean(str(data['path']))}"
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for name, value in data_lines(data) + encoding_lines(encoding):
        table.add_row(name, Text(clean(value)))
    out.print(table)


def data_lines(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    skipped = sum(data["skipped"].values())
    reasons = f" ({', '.join(f'{count} {reason}' for reason, count in data['skipped'].items())})" if skipped else ""
    leaks = ", ".join(f"{part}: {count['exact']} exact, {count['near']} near" for part, count in data["leaks"].items())
    near = "character 3-gram cosine >= 0.9" + (", by MinHash: a few may be missed" if data["approximate"] else "")
    lines = [
        ("format", f"{data['format']}: {data['why']}"),
        ("rows", f"{data['read']:,} read = {data['kept']:,} kept + {skipped:,} skipped{reasons}"),
        ("split", f"{data['split']}: " + ", ".join(f"{count:,} {part}" for part, count in data["sizes"].items())),
        ("duplicates", f"{data['exact_duplicates']:,} exact, {data['near_duplicates']:,} near ({near})"),
        ("leaks from train", leaks or "none"),
        *(("skipped", row) for row in data["first_skipped"]),
        *(("note", note) for note in data["notes"]),
    ]
    return [*lines, ("columns not read", ", ".join(data["not_read"]))] if data["not_read"] else lines


def encoding_lines(encoding: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows, unlearned = encoding["rows"], len(encoding["unlearned"])
    limit = f"at most {encoding['limit']:,} tokens"
    cut = ", ".join(f"{count} in the {name}" for name, count in encoding["truncated"].items()) or "none"
    return [
        ("template", f"{encoding['template']}, stop token {encoding['stop_token']}, {limit}"),
        *((f"{part} tokens", _spread(encoding[f"{part}_tokens"])) for part in ("prompt", "answer")),
        ("rows with a target", f"{encoding['rows_with_target']:,} / {rows:,}"),
        ("stop token supervised", f"{encoding['stop_supervised']:,} / {rows:,}"),
        ("truncated", cut),
        ("dropped as too long", str(len(encoding["dropped"]))),
        *([("dropped, all answers of weight 0", str(unlearned))] if unlearned else []),
        ("special tokens in text", f"{encoding['special_tokens_in_text']} rows (encoded as plain text)"),
        *([("shared beginnings", _shared(alike))] if (alike := encoding.get("shared_beginnings")) else []),
        ("first batches", "widths " + ", ".join(map(str, encoding["batch_widths"][:10]))),
    ]


def _shared(alike: Mapping[str, int]) -> str:
    return (
        f"{alike['rows']:,} rows begin as others do for long ({alike['beginnings']:,} beginnings): they train together"
    )


def _spread(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in numbers.items())


def show_segments(place: str, segments: Sequence[Segment]) -> None:
    """Print a conversation as the model sees it, the supervised part in green or, without colours, in « and »."""
    plain = out.color_system is None or out.no_color
    out.print(Text(f"{place}; learned: {'what stands in « »' if plain else 'the green'}", style="bold"))
    for learned, parts in groupby(segments, lambda segment: segment.supervised):
        text = clean("".join(segment.text for segment in parts))
        shown = Text(f"«{text}»" if learned and plain else text, style="green" if learned else "dim")
        out.print(shown, end="", soft_wrap=True)
    out.print("\n")


def show_answers(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print questions with the reference, the answer before and the answer after."""
    table = Table(title="Before and after, on rows it never saw", title_justify="left", show_lines=True)
    for name in ("question", "reference", "before", "after"):
        table.add_column(name, ratio=1, overflow="fold")
    for question, reference, before, after in rows:
        right = "green" if after.strip() == reference.strip() else ""
        cells = [Text(shorten(clean(text), 220)) for text in (question, reference, before)]
        table.add_row(*cells, Text(shorten(clean(after), 220), style=right))
    out.print(table)


def shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def show_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Print the scores of every model with their intervals, and what may be said of the difference."""
    of = evaluation["of"]
    what = "test rows" if of["rows"] == "held back" else f"rows of {clean(of['data'])}"
    how = clean(answered_with(evaluation))
    _show_scores(f"Scores on {evaluation['rows']} {what}{how}", evaluation, "tuned - base")
    _show_parts(evaluation, "tuned - base")
    out.print("* decides, chosen before. NLL is in nats per token: lower is better.", style="dim")


def show_comparison(result: Mapping[str, Any]) -> None:
    """Print two runs' scores side by side, and which of their settings differ."""
    for leaf, (first, second) in result["differences"].items():
        out.print(Text(clean(f"{leaf}: {first} and {second}"), style="dim"))
    _show_scores(f"Scores on {result['rows']} rows that both answered", result, "second - first")
    _show_parts(result, "second - first")
    if "note" in result:
        out.print(Text(clean(result["note"])))
    out.print(Text(clean(_decided(result))), soft_wrap=True)


def _decided(result: Mapping[str, Any]) -> str:
    """Say what the score that decides says of two runs."""
    first, second = result["runs"]
    pair = result["paired"].get(result["decides"])
    if pair is None:
        return incomparable(second, first, result["decides"])
    verdict = {"better": "is better than", "worse": "is worse than"}.get(pair["verdict"], "and")
    rest = "" if pair["verdict"] in ("better", "worse") else f": {pair['verdict']}"
    return f"{second} {verdict} {first}{rest}, by {result['decides']}, which decides."


def show_sweep(result: Mapping[str, Any]) -> None:
    """Print one line a variant: its scores, and how it compares with the default, or else with the first."""
    decides = result["decides"]
    of_seeds = f", means over {result['seeds']} seeds" if result["seeds"] > 1 else ""
    table = Table(title=f"Sweep on {result['rows']} test rows{of_seeds}", title_justify="left")
    shown = [decides, *(metric for metric in ("nll", "exact_match", "rouge_l", "chrf") if metric != decides)]
    beside = "- default" if result["default"] else "- first"
    for name in ("variant", *map(label, shown), beside, "p", "verdict"):
        table.add_column(name)
    for entry in result["variants"]:
        marks = [entry["name"] == result[role] for role in ("default", "winner")]
        variant = entry["name"] + " (default)" * marks[0] + " <-" * marks[1]
        pair = entry["paired"].get(decides)
        told = [f"{pair['difference']:+.3f}", f"{pair['p_value']:.3f}", pair["verdict"]] if pair else ["", "", ""]
        table.add_row(Text(clean(variant)), *(f"{entry['scores'][m]['value']:.3f}" for m in shown), *told)
    out.print(table)
    if not result["default"]:
        out.print(f"None of them is the default: each is compared with the first, {result['compared_with']}.")
    out.print(f"{label(decides)} decides, chosen before. The winner's recipe: {result['recipe']}")
    caution = "another training may differ by its seed alone"
    out.print(f"p and verdict are of these trainings, on other rows like these; {caution}.", style="dim")


def _show_parts(evaluation: Mapping[str, Any], difference: str) -> None:
    """Print what an evaluation holds besides the scores of the answers."""
    if "checks" in evaluation:
        part = evaluation["checks"]
        _show_scores(f"Constraints kept, on the {part['rows']} rows that declare some", part, difference)
    if "judge" in evaluation:
        part = evaluation["judge"]
        _show_scores(f"Judged by {clean(part['model'])}" if "model" in part else "Judged", part, difference)
        if "asked" in part:
            tokens = part["tokens"]["prompt"] + part["tokens"]["completion"]
            text = f"{part['unscored']} of {part['asked']} replies could not be scored; {tokens:,} tokens in all."
            out.print(text, style="dim" if not part["unscored"] else "yellow")
        for entry in part.get("unscored_examples", ()):
            told = entry.get("reason") or f"the reply {entry['reply']!r}"
            out.print(Text(clean(f"  {entry['place']}, {entry['model']}: {shorten(told, 120)}"), style="dim"))
    if "forgetting" in evaluation:
        part = evaluation["forgetting"]
        _show_scores(f"Forgetting, by {part['rows']} questions with four answers to choose from", part, difference)


def _show_scores(title: str, part: Mapping[str, Any], difference: str) -> None:
    """Print one part: a line a score."""
    models = part["models"]
    if not models:
        return
    table = Table(title=f"{title}, with 95 % intervals", title_justify="left")
    for name in ("", *map(clean, models), difference, "verdict"):
        table.add_column(name)
    for metric in metrics_of(models):
        if metric in ON_THE_PAGE:
            continue
        pair = part["paired"].get(metric)
        told = f"{pair['difference']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}]" if pair else ""
        cells = [_interval(scores.get(metric)) for scores in models.values()]
        decides = " *" if metric == part.get("decides") else ""
        table.add_row(label(metric) + decides, *cells, told, pair["verdict"] if pair else "")
    out.print(table)


def _interval(score: Mapping[str, float] | None) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]" if score else ""


def mute() -> None:
    """Show nothing more but problems: another process shows what this one does too."""
    out.quiet = err.quiet = True


def show_export(path: Path, receipt: Mapping[str, Any], checks: Sequence[tuple[str, str]]) -> None:
    """Show where an export lies, its files, and how it was held against the run."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, file in receipt["files"].items():
        table.add_row(name, f"{file['bytes'] / 2**20:,.1f} MiB")
    for what, found in checks:
        table.add_row(what, found)
    out.print(table)
    kind, answers = receipt["precision"], receipt.get("answers", {"different": 0})
    what = f"The same model as the run's, in {kind}"
    if answers["different"]:
        what = f"The run's model rounded to {kind}, with {answers['different']} of {answers['answers']} answers changed"
    out.print(f"{what}: {path}", soft_wrap=True)


def show_shipment(folder: Path, files: Mapping[str, int], repository: str, public: bool) -> None:
    """Show what an upload consists of, and who will see it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, size in files.items():
        table.add_row(name, f"{size / 2**20:,.1f} MiB")
    out.print(table)
    seen = "public: everyone sees it" if public else "private"
    out.print(f"{folder} -> {repository} ({seen})", soft_wrap=True)


def problem(text: str) -> None:
    """Say on stderr what went wrong, in one sentence."""
    Screen(stderr=True).print(Text(f"heedful: {clean(text)}"), soft_wrap=True)
    sys.stderr.flush()
