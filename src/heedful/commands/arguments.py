"""The arguments and options that several verbs share, and what their words become: settings and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from heedful.errors import UsageError

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `heedful train` made.")]
Data = Annotated[
    str | None, typer.Argument(help="A file, folder, URL or Hugging Face data set id; builtin or builtin:zh (shipped).")
]
RunOrModel = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL", help="A run's folder, or a model: short name, folder, .gguf file or Hugging Face id."
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="A short name, folder, .gguf file or Hugging Face id.")
]
Recipe = Annotated[str | None, typer.Option("--recipe", "--config", "-c", help="A YAML file of settings.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the rows, if it is detected wrongly: alpaca, messages, sharegpt, prompt_completion,"
        " question_answer or dolly.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,...",
        help="Which column holds which field, as in output=reply; may be repeated.",
    ),
]
OnBadRow = Annotated[str | None, typer.Option("--on-bad-row", help="What to do with an unusable row: error, or skip.")]
TemplateName = Annotated[
    str | None, typer.Option("--template", help="Format of the prompt: auto, alpaca, chatml or own (the tokenizer's).")
]


def merge_overrides(settings: list[str] | None, **leaves: Any) -> dict[str, Any]:
    """Merge --set with the options that have a name of their own, which win; `data__split` stands for data.split."""
    from heedful.settings import split_override

    overrides = dict(split_override(text) for text in settings or [])
    return overrides | {leaf.replace("__", "."): value for leaf, value in leaves.items() if value is not None}


def refuse_ignored(where: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError for options, by name, that are given but ignored; `where` says when, as "with --run"."""
    given = [name for name, value in options.items() if value]
    if given:
        have, them = ("has", "it") if len(given) == 1 else ("have", "them")
        add = f"Add {where.removeprefix('without ')}, or leave" if where.startswith("without ") else "Leave"
        raise UsageError(f"{' and '.join(given)} {have} no effect {where}.", f"{add} {them} out.")


def columns_of(texts: list[str] | None) -> dict[str, str] | None:
    """Merge what one or several --columns name; raise UsageError for a field that is named twice."""
    columns: dict[str, str] = {}
    for text in texts or []:
        for pair in text.split(","):
            field, _, column = map(str.strip, pair.partition("="))
            if not field or not column:
                raise UsageError(
                    f"--columns {text} is not a list.", "Write --columns instruction=question,output=reply."
                )
            if field in columns:
                raise UsageError(f"--columns names {field} twice.", "Name one column for it.")
            columns[field] = column
    return columns or None


def seconds_of(budget: str | None) -> float | None:
    """Read 90s, 10m or 2h."""
    if budget is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(budget[-1:])
    number = budget[:-1]
    if unit is None or not number.replace(".", "", 1).isdecimal() or not float(number):
        raise UsageError(f"--budget {budget} is not a time.", "Write it as 90s, 10m or 2h.")
    return float(number) * unit
