"""`heedful export` and `heedful push`: their options, and what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heedful.commands.arguments import Json, RunPath


def export(
    run: RunPath,
    to: Annotated[
        str,
        typer.Option(
            "--to", help="Format: hf (a Hugging Face folder), gguf (llama.cpp) or ollama (GGUF and a Modelfile)."
        ),
    ],
    quantize: Annotated[
        str | None,
        typer.Option(
            "--quantize", help="Precision of the weights: f32, f16 or bf16; for gguf and ollama also q8_0 or q4_0."
        ),
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="With --to hf: export the LoRA adapter alone, without its base model.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="PATH", help="Folder or .gguf file to write; inside RUN/export/ if not given."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is already there.")] = False,
    json: Json = False,
) -> None:
    """Write the tuned model for other programs, and check it."""
    from heedful.run import open_run

    open_run(run)  # before the libraries are imported, which takes seconds
    from heedful import pipeline
    from heedful.export import verify
    from heedful.report import screen

    made = pipeline.export(run, to, quantize=quantize, adapter=adapter, out=out, force=force)
    if json:
        screen.show_json({"path": str(made.path), **made.receipt})
        return
    screen.show_export(made.path, made.receipt, verify.told(made.receipt))


def push(
    place: Annotated[Path, typer.Argument(metavar="RUN_OR_EXPORT", help="An exported folder, or a run with one.")],
    to: Annotated[
        str, typer.Option("--to", metavar="OWNER/NAME", help="The repository; created if it does not exist.")
    ],
    public: Annotated[bool, typer.Option("--public", help="Create it public instead of private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Upload; without it, only show what would be uploaded.")] = False,
) -> None:
    """Upload an export to the Hugging Face hub.

    Without --yes it only shows what would be uploaded.
    """
    from heedful.export import hub
    from heedful.report import screen

    shipment = hub.pack(place, to, public)
    screen.show_shipment(shipment.folder, shipment.files, to, public)
    if yes:
        screen.say(f"Uploading to {to} ...")
        print(hub.send(shipment))
    else:
        screen.say("Nothing was sent. Add --yes to send it.")
