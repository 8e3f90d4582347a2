"""`heedful export` and `heedful push`: their options, and what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heedful.options import Json, RunPath


def export(
    run: RunPath,
    to: Annotated[str, typer.Option("--to", help="hf: a folder; gguf: for llama.cpp; ollama: that and a Modelfile.")],
    quantize: Annotated[
        str | None, typer.Option("--quantize", help="f32, f16, bf16; with gguf and ollama also q8_0, q4_0.")
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="With --to hf: the LoRA adapter without its base.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where it goes; RUN/export/ if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
    json: Json = False,
) -> None:
    """Write the tuned model for other programs, and prove that it is the same model."""
    from heedful.run import open_run

    open_run(run)  # before the libraries are imported, which takes seconds
    from heedful import pipeline
    from heedful.report import screen

    made = pipeline.export(run, to, quantize=quantize, adapter=adapter, out=out, force=force)
    if json:
        screen.show_json({"path": str(made.path), **made.receipt})
        return
    screen.show_export(made.path, made.receipt, made.checks)


def push(
    place: Annotated[Path, typer.Argument(metavar="RUN_OR_EXPORT", help="An exported folder, or a run with one.")],
    to: Annotated[str, typer.Option("--to", metavar="OWNER/NAME", help="The repository; it is made if need be.")],
    public: Annotated[bool, typer.Option("--public", help="For everyone to see; private if not given.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send; without it, only say what would be sent.")] = False,
) -> None:
    """Upload an export to the Hugging Face hub; first say what would be sent."""
    from heedful.export import hub
    from heedful.report import screen

    shipment = hub.pack(place, to, public)
    screen.show_shipment(shipment.folder, shipment.files, to, public)
    if yes:
        print(hub.send(shipment))
    else:
        screen.say("Nothing was sent. Add --yes to send it.")


def register(app: typer.Typer) -> None:
    app.command()(export)
    app.command()(push)
