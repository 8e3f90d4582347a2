"""The receipt in words: what became of each row, for the terminal, the page and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedful.errors import listed
from heedful.report.labels import counted


def data_lines(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell how the rows were read and split."""
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
        *(("note", note) for note in (*data.get("file_notes", ()), *data["notes"])),
    ]
    return [*lines, ("columns not read", listed(data["not_read"]))] if data["not_read"] else lines


def encoding_lines(encoding: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell how the rows became tokens."""
    rows, unlearned = encoding["rows"], len(encoding.get("unlearned", ()))
    not_validated = encoding.get("not_validated", {})
    limit = f"at most {encoding['limit']:,} tokens"
    return [
        ("template", f"{encoding['template']}, stop token {encoding['stop_token']}, {limit}"),
        *((f"{part} tokens", _spread(encoding[f"{part}_tokens"])) for part in ("prompt", "answer")),
        ("rows with a target", f"{encoding['rows_with_target']:,} / {rows:,}"),
        ("stop token supervised", f"{encoding['stop_supervised']:,} / {rows:,}"),
        ("truncated", truncated(encoding)),
        ("dropped as too long", str(len(encoding["dropped"]))),
        *([("dropped, all answers of weight 0", str(unlearned))] if unlearned else []),
        *([("dropped, refused by the template", str(len(refused)))] if (refused := encoding.get("refused")) else []),
        *(("validation rows left out", f"{len(places):,} {why}") for why, places in not_validated.items()),
        *(("test rows not scored", f"{len(places):,} {why}") for why, places in encoding.get("not_scored", {}).items()),
        ("special tokens in text", f"{counted(encoding['special_tokens_in_text'], 'row')} (encoded as plain text)"),
        *([("shared beginnings", _shared(alike))] if (alike := encoding.get("shared_beginnings")) else []),
        ("first batches", "widths " + ", ".join(map(str, encoding["batch_widths"][:10]))),
    ]


def truncated(encoding: Mapping[str, Any]) -> str:
    """Count the rows that were cut to fit, by the field that was cut."""
    return ", ".join(f"{count} in the {name}" for name, count in encoding["truncated"].items()) or "none"


def _shared(alike: Mapping[str, int]) -> str:
    beginnings = counted(alike["beginnings"], "beginning")
    return f"{alike['rows']:,} rows begin as others do for long ({beginnings}): they train together"


def _spread(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in numbers.items())
