"""The verbs that let a model answer: one prompt, a file of them, a chat in the terminal, a server's clients."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from heedful import pipeline
from heedful.begin import SAMPLING, answer_config, refuse_others
from heedful.clean import clean, is_unicode
from heedful.config import changed, load_config
from heedful.data.prompts import AskedRow, prompts
from heedful.errors import DataError, UsageError, install
from heedful.generate.engine import Engine
from heedful.generate.sampling import seeded_per_row
from heedful.model import fingerprint
from heedful.records import Message
from heedful.report import screen
from heedful.report.bars import TERMINAL, counting_bar
from heedful.run import holds_run, open_run, read_json, write_json

ANOTHER_OUT = "Choose another --out, or remove it."
ROWS_PER_WRITE = 512  # rows that are answered before the file is first written


@dataclass(frozen=True)
class ServerOptions:
    """Where a server listens, and whom it answers: holders of a key, for these host names, from these origins."""

    host: str
    port: int
    key_file: Path | None
    hosts: Sequence[str]
    origins: Sequence[str]


def answer_one(
    run_or_model: str, prompt: str, input: str, system: str | None, settings: Mapping[str, Any], as_json: bool
) -> None:
    """Answer one prompt on stdout."""
    refuse_others(settings, (*SAMPLING, "precision"), "`heedful generate --prompt`")
    for option, text in (("--prompt", prompt), ("--input", input), ("--system", system or "")):
        if not is_unicode(text):
            raise UsageError(f"{option} is not text: it holds bytes that are not UTF-8.", "Write it as UTF-8.")
    head = [Message("system", system)] if system else []
    completion = pipeline.generate(run_or_model, [[*head, Message("user", prompt, input=input)]], settings=settings)[0]
    if as_json:
        screen.show_json(asdict(completion) | {"seconds": round(completion.seconds, 3)}, indent=None)
    else:
        print(clean(completion.text))


def answer_file(run_or_model: str, data: str, out: Path, settings: Mapping[str, Any]) -> None:
    """Answer every row of a data set, and write the rows with their `model_response` to a file.

    Unfinished answers are kept in a file beside it, from which the same command continues.
    """
    folder = out.resolve().parent
    if out.resolve() == Path(data).resolve() or out.is_dir() or not os.access(folder, os.W_OK):
        reason = "it is a folder" if out.is_dir() else "" if folder.is_dir() else f"there is no folder {folder}"
        raise UsageError(f"Answers cannot be written to {out}{reason and ': '}{reason}.", "Choose another --out.")
    if out.exists():
        raise UsageError(f"{out} exists.", ANOTHER_OUT)
    asked = {leaf: value for leaf, value in settings.items() if not leaf.startswith("data.")}
    refuse_others(asked, (*SAMPLING, "precision", "batch_size"), "`heedful generate --data`")
    rows = prompts(load_config(None, settings, {"data.path": data}).data, TERMINAL)
    engine = pipeline.load(run_or_model, settings=settings)
    _check_lengths(engine, data, [asked for _, asked in rows])
    unfinished, key = out.with_name(f"{out.name}.unfinished"), _answers_key(engine, rows)
    done = _resumed(unfinished, key)
    if done:
        screen.say(f"{len(done)} of {len(rows)} answers are kept from {unfinished}.")
    samplings = seeded_per_row(engine.sampling, len(rows))
    with counting_bar(f"Answering {len(rows)} rows", len(rows)) as on_done:

        def told(more: int) -> None:
            on_done(len(done) + more)

        while len(done) < len(rows):
            part = slice(len(done), len(done) + max(ROWS_PER_WRITE, len(done)))  # so that little time goes into writing
            answers = engine.generate([asked for _, asked in rows[part]], samplings[part], on_done=told)
            done += [{**row, "model_response": a.text} for (row, _), a in zip(rows[part], answers, strict=True)]
            write_json(unfinished, {"key": key, "answers": done})
    write_json(out, done)
    unfinished.unlink(missing_ok=True)
    screen.say(f"{len(rows)} answers are in {out}.")


def _answers_key(engine: Engine, rows: Sequence[AskedRow]) -> str:
    """Hash what answers depend on: the model, its precision, the sampling, and each row with its prompt's tokens."""
    digest = hashlib.sha256(f"{fingerprint(engine.model)} {engine.model.dtype} {engine.sampling}".encode())
    for row, asked in rows:
        digest.update(json.dumps([row, engine.prompter.prompt_ids(asked)]).encode())
    return digest.hexdigest()


def _resumed(unfinished: Path, key: str) -> list[dict[str, Any]]:
    """Return the answers of an earlier call that did not finish; UsageError if they are of another call."""
    held = read_json(unfinished) if unfinished.exists() else {"key": key, "answers": []}
    if not isinstance(held, dict) or held.get("key") != key:
        raise UsageError(
            f"{unfinished} does not hold answers of this model, by these settings, to these rows.",
            ANOTHER_OUT,
        )
    return list(held["answers"])


def _check_lengths(engine: Engine, data: str, questions: Sequence[Sequence[Message]]) -> None:
    """Refuse, before the first answer, rows that the model has no room for."""
    long = [row for row, asked in enumerate(questions, 1) if engine.count(asked) >= engine.positions]
    if long:
        rows = f"row {long[0]}" + f" and {len(long) - 1} others" * (len(long) > 1)
        raise DataError(f"{data}: {rows} leave no room in a model of {engine.positions} positions.", "Shorten them.")


def chat(run_or_model: str, system: str | None, settings: Mapping[str, Any]) -> None:
    """Chat in the terminal with a model of this machine."""
    from heedful.generate.prefix_cache import PrefixCache
    from heedful.serve.chat import chat
    from heedful.serve.limits import Limits

    refuse_others(settings, (*SAMPLING, "precision"), "`heedful chat`")
    engine = pipeline.load(run_or_model, settings=settings)
    engine.prefix_cache = PrefixCache(Limits().prefix_cache_bytes)  # what was said so far is not read at each turn
    base = cache(lambda: pipeline.load_base(run_or_model, settings=settings)) if holds_run(run_or_model) else None
    chat(engine, engine.sampling, system, base)


def serve(run_or_model: str, options: ServerOptions, settings: Mapping[str, Any], with_base: bool) -> None:
    """Serve a run or a model until a signal."""
    try:
        from heedful.serve import server
        from heedful.serve.app import create_app
        from heedful.serve.guard import AccessPolicy
        from heedful.serve.key import API_KEY, check_host, read_key
        from heedful.serve.limits import Limits
        from heedful.serve.page import page_routes
    except ModuleNotFoundError as error:
        raise UsageError("`heedful serve` needs more packages.", install("serve")) from error
    key = read_key(options.key_file, API_KEY)
    check_host(options.host, key)
    config = answer_config(run_or_model, settings)
    sampling = config.generate.sampling()
    given = [name for name in SAMPLING if name != "seed"]  # each request names its own, or one is drawn
    refuse_others(settings, (*given, "precision"), "`heedful serve`")
    policy = AccessPolicy(key, (options.host, *options.hosts), options.origins)
    listener = server.listen(options.host, options.port)
    chosen = "generate.max_tokens" in {**changed(config), **settings}  # else the default, which is meant for evaluating
    limits = Limits(answer_tokens=sampling.max_tokens) if chosen else Limits()
    models = pipeline.load_served(run_or_model, with_base, settings=settings)
    run = open_run(run_or_model) if holds_run(run_or_model) else None
    page = page_routes(next(iter(models)), run, replace(sampling, max_tokens=limits.answer_tokens))
    app = create_app(models, policy, limits, sampling, [page])
    names, url = " and ".join(models), server.url_of(listener)
    told = f"{names} at {url}\nOpen it in a browser to chat; the API is under /v1. Ctrl-C stops the server."
    server.run(app, listener, lambda: screen.say(told))
