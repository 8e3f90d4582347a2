"""The arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `heedful train` made.")]
Data = Annotated[str | None, typer.Argument(help="A file, folder, URL, data set id, builtin or builtin:zh.")]
RunOrModel = Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run, or a model by name or folder.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A short name, folder, .gguf file or hub id.")]
Recipe = Annotated[str | None, typer.Option("--recipe", "--config", "-c", help="A YAML file of settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Format = Annotated[str | None, typer.Option("--format", help="The rows' format, if detection is wrong.")]
Columns = Annotated[str | None, typer.Option("--columns", metavar="FIELD=COLUMN,...", help="Other names of fields.")]
OnBadRow = Annotated[str | None, typer.Option("--on-bad-row", help="error, or skip and count.")]
TemplateName = Annotated[str | None, typer.Option("--template", help="auto, alpaca, chatml or own.")]
