"""The verbs that let a model answer: one prompt, a chat in the terminal, a server's clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from heedful import pipeline
from heedful.clean import clean
from heedful.config import SAMPLING
from heedful.errors import UsageError, install_extra
from heedful.records import Message
from heedful.report import screen
from heedful.run import answer_config, holds_run, open_run
from heedful.settings import changed, refuse_others


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
    head = [Message("system", system)] if system else []
    completion = pipeline.generate(run_or_model, [[*head, Message("user", prompt, input=input)]], settings=settings)[0]
    if as_json:
        screen.show_json(asdict(completion) | {"seconds": round(completion.seconds, 3)}, indent=None)
    else:
        print(clean(completion.text))
        if completion.finish_reason == "length":
            most = answer_config(run_or_model, settings).generate.max_tokens
            screen.say(screen.cut_off(completion, most, "--max-tokens N"))


def chat(run_or_model: str, system: str | None, settings: Mapping[str, Any]) -> None:
    """Chat in the terminal with a model of this machine."""
    from heedful.generate.prefix_cache import PrefixCache
    from heedful.serve.chat import chat

    refuse_others(settings, (*SAMPLING, "precision"), "`heedful chat`")
    engine = pipeline.load(run_or_model, settings=settings)
    engine.prefix_cache = PrefixCache()  # what was said so far is not read at each turn
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
        from heedful.serve.page_routes import page_routes
    except ModuleNotFoundError as error:
        raise UsageError("`heedful serve` needs more packages.", install_extra("serve")) from error
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
