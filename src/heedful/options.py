"""The arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Format = Annotated[str | None, typer.Option("--format", help="Format of the rows, if it is detected wrongly.")]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,...",
        help="Which column holds which field, as in output=reply.",
    ),
]
OnBadRow = Annotated[str | None, typer.Option("--on-bad-row", help="What to do with an unusable row: error, or skip.")]
TemplateName = Annotated[
    str | None, typer.Option("--template", help="Format of the prompt: auto, alpaca, chatml or own (the tokenizer's).")
]
