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
from heedful.records import Completion, Segment
from heedful.report.console import Screen
from heedful.report.console import err as err
from heedful.report.console import out as out
from heedful.report.labels import counted
from heedful.report.receipt import data_lines, encoding_lines
from heedful.system.streams import knows_unicode

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
    end = "…" if knows_unicode() else "..."  # escaped, as \u2026, it would push a table's border
    return text if len(text) <= length else text[: length - len(end)] + end


def cut_off(answer: Completion, most: int, setting: str) -> str:
    """Say where an answer was cut off: at `most` tokens, which `setting` raises, or where the model's context ends. Of
    a server, which does not tell its tokens, either may be."""
    if not (tokens := len(answer.token_ids)):
        return f"Cut off by the server. If that is its limit of tokens, {setting} raises it."
    if tokens < most:
        return f"Cut off where the model's context of {counted(answer.prompt_tokens + tokens, 'token')} ends."
    return f"Cut off at the limit of {counted(most, 'token')}; {setting} raises it."


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
    if needed := receipt.get("base", {}).get("needed"):
        out.print(needed, soft_wrap=True)


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
