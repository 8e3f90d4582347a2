"""The smaller verbs: answer, talk, list and fetch models. They print what they find."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table

from heedful import data as data_stage
from heedful import model as models
from heedful import pipeline
from heedful.catalogue import CATALOGUE, works_offline
from heedful.config import load_config
from heedful.errors import UsageError
from heedful.evaluate.score import question
from heedful.records import Message
from heedful.report import screen
from heedful.run import Run, holds_run, write_json

SAMPLING = ("max_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop")


@dataclass(frozen=True)
class Door:
    """Where a server listens, and whom it lets in: holders of a key, under these host names, from these origins."""

    host: str
    port: int
    key_file: Path | None
    hosts: Sequence[str]
    origins: Sequence[str]


def answer_one(
    run_or_model: str, prompt: str, input: str, system: str | None, settings: Mapping[str, Any], as_json: bool
) -> None:
    """Answer one prompt on stdout."""
    head = [Message("system", system)] if system else []
    completion = pipeline.generate(run_or_model, [[*head, Message("user", prompt, input=input)]], settings=settings)[0]
    if as_json:
        print(json.dumps({"text": completion.text, "finish_reason": completion.finish_reason,
                          "token_ids": completion.token_ids, "prompt_tokens": completion.prompt_tokens,
                          "seconds": round(completion.seconds, 3)}, ensure_ascii=False))  # fmt: skip
    else:
        print(screen.plain(completion.text))


def answer_file(run_or_model: str, data: str, out: Path | None, settings: Mapping[str, Any]) -> None:
    """Answer every row of a data set; the rows with `model_response` go to a file."""
    if out is None:
        raise UsageError("--data needs --out FILE for the answers.")
    config = load_config(None, settings, {"data.path": data, "data.test_share": 0, "data.validation_share": 0})
    rows = sorted(data_stage.load(config.data)[0].train, key=lambda row: row.place.row)
    engine = pipeline.load(run_or_model, settings=settings)
    with screen.counting_bar(f"Answering {len(rows)} rows", len(rows)) as on_done:
        prompts = [question(row) for row in rows]
        answers = engine.generate(prompts, pipeline.sampling_of(config), config.generate.batch_size, on_done)
    write_json(out, [{**row.row, "model_response": a.text} for row, a in zip(rows, answers, strict=True)])
    screen.say(f"{len(rows)} answers are in {out}.")


def talk(
    run_or_model: str | None, url: str | None, key_file: Path | None, system: str | None, settings: Mapping[str, Any]
) -> None:
    """Chat in the terminal, with a model of this machine or with a server's."""
    from heedful.generate.beginnings import Beginnings
    from heedful.serve.chat import chat
    from heedful.serve.key import read_key
    from heedful.serve.limits import Limits
    from heedful.serve.remote import connect

    sampling = pipeline.sampling_of(load_config(None, settings))
    if url is not None:
        refuse_others(settings, SAMPLING, "`heedful chat --url`")
        return chat(connect(url, run_or_model, read_key(key_file)), sampling, system)
    if run_or_model is None:
        raise UsageError("Say with whom: heedful chat RUN_OR_MODEL, or heedful chat --url URL.")
    if key_file is not None:
        raise UsageError("--api-key-file is for a server, and none is named.", "Name it with --url.")
    refuse_others(settings, (*SAMPLING, "precision"), "`heedful chat`")
    engine = pipeline.load(run_or_model, settings=settings)
    engine.beginnings = Beginnings(Limits().remembered)  # the conversation so far is not read again at each turn
    base = cache(lambda: pipeline.load_base(run_or_model, settings=settings)) if holds_run(run_or_model) else None
    return chat(engine, sampling, system, base)


def refuse_others(settings: Mapping[str, Any], read: Collection[str], verb: str) -> None:
    """Raise a UsageError for a setting that a verb does not read."""
    for leaf in settings:
        if leaf not in {f"generate.{name}" for name in read}:
            raise UsageError(f"{verb} does not read {leaf}.", f"Of generate it reads {', '.join(read)}.")


def serve(run_or_model: str, door: Door, settings: Mapping[str, Any], with_base: bool) -> None:
    """Serve a run or a model until a signal."""
    try:
        from heedful.serve import server
        from heedful.serve.app import create_app
        from heedful.serve.guard import Trust
        from heedful.serve.key import check_host, read_key
        from heedful.serve.limits import Limits
        from heedful.serve.page import page_routes
    except ModuleNotFoundError as error:
        raise UsageError(
            "`heedful serve` needs more packages.", "Install them: pip install 'heedful[serve]'."
        ) from error
    key = read_key(door.key_file)
    check_host(door.host, key)
    sampling = pipeline.sampling_of(load_config(None, settings))
    given = [name for name in SAMPLING if name != "seed"]  # each request names its own, or one is drawn
    refuse_others(settings, (*given, "precision"), "`heedful serve`")
    trust = Trust(key, (door.host, *door.hosts), door.origins)
    listener = server.listen(door.host, door.port)
    limits = Limits(answer_tokens=sampling.max_tokens) if "generate.max_tokens" in settings else Limits()
    models = pipeline.load_served(run_or_model, with_base, settings=settings)
    page = page_routes(next(iter(models)), Run(Path(run_or_model)) if holds_run(run_or_model) else None)
    app = create_app(models, trust, limits, sampling, [page])
    names, url = " and ".join(models), server.url_of(listener)
    told = f"{names} at {url}\nA page to talk to it, and the API under /v1. Ctrl-C ends."
    server.run(app, listener, lambda: screen.say(told))


def list_models(as_json: bool) -> None:
    rows = [
        {"name": n, "parameters": e.parameters, "licence": e.licence, "hub_id": e.hub_id, "offline": works_offline(n)}
        for n, e in CATALOGUE.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("name", "parameters", "licence", "on this machine", "Hugging Face id", box=None, pad_edge=False)
    for row in rows:
        offline = "yes" if row["offline"] else "needs the network"
        table.add_row(str(row["name"]), str(row["parameters"]), str(row["licence"]), offline, str(row["hub_id"]))
    screen.out.print(table)
    screen.out.print(
        "A folder, a .gguf file and any Hugging Face id of a causal language model work as well.", style="dim"
    )


def pull(name: str) -> Path:
    """Fetch or convert a model, so that it loads at once from then on; give its folder."""
    loaded = models.load(name)
    if Path(loaded.origin).is_dir():
        return Path(loaded.origin)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(loaded.origin, local_files_only=True))
