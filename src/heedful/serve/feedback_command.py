"""`heedful feedback export RUN`: what people said of a run's answers becomes a file to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def feedback(
    action: Annotated[Literal["export"], typer.Argument(help="export")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `heedful train` made.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; without it RUN/feedback.json.")] = None,
) -> None:
    """Write the answers that were rated good or written better as rows to train on; print the file's name."""
    from heedful.report import screen
    from heedful.serve.feedback import export_feedback

    file, rows, others = export_feedback(run, out)
    screen.say(f"{rows} answers to learn from; {others} were rated bad with nothing better.")
    print(file)


def register(app: typer.Typer) -> None:
    app.command()(feedback)
