"""The verbs that talk to a model: `generate`, `chat`, `serve`, and `feedback` on what it said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from heedful.commands.arguments import (
    Columns,
    Format,
    Json,
    RunOrModel,
    RunPath,
    Set,
    columns_of,
    merge_overrides,
    refuse_ignored,
)
from heedful.errors import UsageError

Temperature = Annotated[
    float | None, typer.Option("--temperature", help="Temperature of sampling; 0 always takes the likeliest token.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Longest answer, in tokens.")]
KeyFile = Annotated[
    Path | None, typer.Option("--api-key-file", help="File that holds the server's key; or set HEEDFUL_API_KEY.")
]
Names = Annotated[
    list[str] | None, typer.Option("--allow-host", help="Also answer requests whose Host header is this name.")
]
Origins = Annotated[
    list[str] | None, typer.Option("--allow-origin", help="Let pages of this origin use the server (CORS).")
]


def generate(
    run_or_model: RunOrModel,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="The instruction to answer.")] = None,
    input: Annotated[str, typer.Option("--input", help="The instruction's input, as in an alpaca row.")] = "",
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Answer every row of this data set.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file to write the answered rows to.")] = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed of sampling.")] = None,
    format: Format = None,
    columns: Columns = None,
    settings: Set = None,
    json: Json = False,
) -> None:
    """Answer one prompt, or every row of a data set."""
    overrides = merge_overrides(
        settings,
        generate__max_tokens=max_tokens,
        generate__temperature=temperature,
        generate__seed=seed,
        data__format=format,
        data__columns=columns_of(columns),
    )
    if (prompt is None) == (data is None):
        raise UsageError("Give either --prompt TEXT or --data FILE.")
    if data is not None:
        refuse_ignored("with --data", {"--system": system, "--input": input, "--json": json})
        if out is None:
            raise UsageError("--data needs --out FILE for the answers.")
    else:
        refuse_ignored("with --prompt", {"--out": out, "--format": format, "--columns": columns})
    from heedful.checking import precheck_model

    precheck_model(run_or_model, overrides, data)
    from heedful.commands import answer_rows, speaking

    if data is not None and out is not None:
        answer_rows.answer_file(run_or_model, data, out, overrides)
    else:
        speaking.answer_one(run_or_model, prompt or "", input, system, overrides, as_json=json)


def chat(
    run_or_model: Annotated[
        str | None,
        typer.Argument(metavar="RUN_OR_MODEL", help="A run's folder, or a model; with --url, a model of that server."),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="OpenAI-compatible server to chat with instead.")] = None,
    key_file: KeyFile = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    settings: Set = None,
) -> None:
    """Chat with a run, a model or a server in the terminal."""
    overrides = merge_overrides(settings, generate__max_tokens=max_tokens, generate__temperature=temperature)
    if url is not None:
        _chat_with_server(url, run_or_model, key_file, system, overrides)
        return
    if run_or_model is None:
        raise UsageError("Name what to chat with: heedful chat RUN_OR_MODEL, or heedful chat --url URL.")
    if key_file is not None:
        raise UsageError("--api-key-file is for a server, and none is named.", "Name it with --url.")
    from heedful.checking import precheck_model

    precheck_model(run_or_model, overrides)
    from heedful.commands import speaking

    speaking.chat(run_or_model, system, overrides)


def _chat_with_server(
    url: str, model: str | None, key_file: Path | None, system: str | None, settings: Mapping[str, Any]
) -> None:
    """Chat with a model of a server, which takes no torch on this machine."""
    from heedful.config import SAMPLING
    from heedful.serve.chat import chat as chat_with
    from heedful.serve.key import API_KEY, read_key
    from heedful.serve.remote import connect
    from heedful.settings import load_config, refuse_others

    refuse_others(settings, SAMPLING, "`heedful chat --url`")
    sampling = load_config(None, settings).generate.sampling()
    remote = connect(url, model, read_key(key_file, API_KEY))
    remote.named |= {leaf.removeprefix("generate.") for leaf in settings}
    chat_with(remote, sampling, system, named=remote.named)  # the same set: what /set names is sent from then on


def serve(
    run_or_model: RunOrModel,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but loopback needs a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    key_file: KeyFile = None,
    allow_host: Names = None,
    allow_origin: Origins = None,
    with_base: Annotated[
        bool, typer.Option("--base/--no-base", help="Also serve the model that the run began with, or not.")
    ] = True,
    temperature: Temperature = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", help="Longest answer to a request that names no limit of its own, in tokens."),
    ] = None,
    settings: Set = None,
) -> None:
    """Serve a run or a model: OpenAI's API, and a web page to chat."""
    from heedful.checking import precheck_model

    overrides = merge_overrides(settings, generate__max_tokens=max_tokens, generate__temperature=temperature)
    precheck_model(run_or_model, overrides)
    from heedful.commands import speaking

    options = speaking.ServerOptions(host, port, key_file, allow_host or (), allow_origin or ())
    speaking.serve(run_or_model, options, overrides, with_base)


def feedback(
    action: Annotated[Literal["export"], typer.Argument(help="What to do: export is all there is.")],
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="JSON file to write; RUN/feedback.json if not given.")
    ] = None,
) -> None:
    """Write what users rated good or corrected as rows to train on.

    Prints the file's name.
    """
    from heedful.report import screen
    from heedful.report.labels import counted
    from heedful.serve.feedback import export_feedback

    file, rows, others = export_feedback(run, out)
    were = "was" if others == 1 else "were"
    screen.say(f"{counted(rows, 'answer')} to learn from; {others} {were} rated bad or cut off, with nothing better.")
    print(file)
