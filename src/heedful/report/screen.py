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
from heedful.streams import knows_unicode

LINES_AN_ANSWER = 6  # of the table of answers


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
    most = LINES_AN_ANSWER * max(12, out.width // 4 - 3)  # characters, before a column's words are wrapped
    for question, reference, before, after in rows:
        right = "green" if after.strip() == reference.strip() else ""
        cells = [Text(shorten(clean(text), most)) for text in (question, reference, before)]
        table.add_row(*cells, Text(shorten(clean(after), most), style=right))
    out.print(table)


def shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


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
