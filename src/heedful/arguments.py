"""Words of the command line -> settings and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedful.errors import UsageError


def merge_overrides(settings: list[str] | None, **leaves: Any) -> dict[str, Any]:
    """Merge --set with the options that have a name of their own, which win; `data__split` stands for data.split."""
    from heedful.config import split_override

    overrides = dict(split_override(text) for text in settings or [])
    return overrides | {leaf.replace("__", "."): value for leaf, value in leaves.items() if value is not None}


def refuse_ignored(where: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError for options, by name, that are given but ignored; `where` says when, as "with --run"."""
    given = [name for name, value in options.items() if value]
    if given:
        have, them = ("has", "it") if len(given) == 1 else ("have", "them")
        add = f"Add {where.removeprefix('without ')}, or leave" if where.startswith("without ") else "Leave"
        raise UsageError(f"{' and '.join(given)} {have} no effect {where}.", f"{add} {them} out.")


def columns_of(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(field.strip() and column.strip() for field, _, column in pairs):
        raise UsageError(f"--columns {text} is not a list.", "Write --columns instruction=question,output=reply.")
    return {field.strip(): column.strip() for field, _, column in pairs}


def seconds_of(budget: str | None) -> float | None:
    """Read 90s, 10m or 2h."""
    if budget is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(budget[-1:])
    number = budget[:-1]
    if unit is None or not number.replace(".", "", 1).isdigit() or not float(number):
        raise UsageError(f"--budget {budget} is not a time.", "Write it as 90s, 10m or 2h.")
    return float(number) * unit
