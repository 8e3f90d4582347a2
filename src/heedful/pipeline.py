"""One function per verb: the table of contents.

Three stand apart: `training` has the longest, `checking` and `comparing` have the two that need no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from heedful.address import redacted
from heedful.begin import Name, check_name
from heedful.config import SAMPLING
from heedful.engines import open_base, open_tuned
from heedful.errors import HeedfulError
from heedful.evaluate.base_and_tuned import score_both
from heedful.evaluate.endpoint import Endpoint
from heedful.evaluate.held_back import evaluation_config, evaluation_rows, record_decider
from heedful.evaluate.judging import JudgeBy, judge_run
from heedful.evaluate.rows import answered
from heedful.export.artefact import Exported, carry_out
from heedful.export.job import plan
from heedful.export.reference import parts
from heedful.generate.engine import Engine, Prompt
from heedful.generate.prompts import check_prompts
from heedful.generate.sampling import seeded_per_prompt
from heedful.records import Completion
from heedful.report import screen
from heedful.report.bars import TERMINAL
from heedful.report.page import write_pages
from heedful.run import Run, answer_config, check_writable, holds_run, open_run
from heedful.settings import Settings, by_leaf, load_config, refuse_others
from heedful.system.lock import lock
from heedful.training import train as train


def evaluate(
    run: Run | Path | str,
    data: Name = None,
    *,
    settings: Settings = (),
    judge: Endpoint | None = None,
    judge_by: JudgeBy = "grade",
) -> dict[str, Any]:
    """Answer the test rows, or all rows of `data`, with the base and the tuned model; score both.

    Results on other rows than those held back go to a folder of their own, and are not what the report tells.
    A `judge` is asked about the answers that are stored already, if they are those to the same rows.
    """
    run = open_run(run)
    check_name("data", data)
    on = None if data is None else str(data)
    config = evaluation_config(run, settings, on)
    results = run.results(on)
    check_writable(results.path)
    with lock(run.path):  # else a training might put another model beside the scores of this one
        rows = evaluation_rows(run, on, settings, TERMINAL)
        record_decider(run, config.evaluate.decides)
        asked = load_config(None, settings).model_fields_set - {"data"}  # how rows are read changes no answer to them
        if judge is None or asked or not answered(results, rows):
            scores = score_both(run, config, rows, on, TERMINAL)
        if judge is not None:
            scores = judge_run(results, rows, judge, judge_by, TERMINAL)
        if on is None:
            screen.say(f"The report: {write_pages(run)}")
        else:
            screen.say(f"The results on {redacted(on)}: {results.evaluation_file}")
    return scores


def load(run_or_model: Run | Path | str, *, settings: Settings = ()) -> Engine:
    """Open a run or a model as an engine that answers by the run's own settings, except those that are given here."""
    config = answer_config(run_or_model, settings)
    refuse_others(by_leaf(settings), (*SAMPLING, "batch_size", "precision"), "heedful.load")
    engine, _ = open_tuned(run_or_model.path if isinstance(run_or_model, Run) else run_or_model, config)
    if engine.decoder is None:
        screen.say(
            "Answers are computed by transformers, which is slower: heedful has no decoder for this model and machine."
        )
    return engine


def load_base(run: Run | Path | str, *, settings: Settings = ()) -> Engine:
    """Open the model that a run began with, in the chat format that it knows, or else in the run's."""
    run = open_run(run)
    return open_base(run, run.config(settings))


def load_served(run_or_model: Path | str, with_base: bool, *, settings: Settings = ()) -> dict[str, Engine]:
    """Open what is served, by name: a run or a model, and a run's base beside it."""
    engines = [load(run_or_model, settings=settings)]
    engines[0].release()  # before the base is there as well
    if with_base and holds_run(run_or_model):
        try:
            engines.append(load_base(run_or_model, settings=settings))
        except HeedfulError as error:
            screen.say(f"Its base model is not served beside it: {error}")
        else:
            engines[1].release()
    return {engine.name: engine for engine in engines}


def generate(
    run_or_model: Run | Path | str | Engine, prompts: Sequence[Prompt], *, settings: Settings = ()
) -> list[Completion]:
    """Answer prompts, each a text or a list of messages (Message, or {"role": ..., "content": ...}).

    They are answered by the run's or the engine's own settings, except those that are given here. Above temperature 0
    each of several prompts draws from a seed of its own.
    """
    check_prompts(prompts)  # before a model is loaded
    if not isinstance(run_or_model, Engine):
        return load(run_or_model, settings=settings).generate(prompts)
    asked = load_config(None, settings).generate
    refuse_others(by_leaf(settings), (*SAMPLING, "batch_size"), "An engine that is loaded")
    named = {name: value for name, value in asdict(asked.sampling()).items() if name in asked.model_fields_set}
    samplings = seeded_per_prompt(replace(run_or_model.sampling, **named), len(prompts))
    return run_or_model.generate(
        prompts, samplings, asked.batch_size if "batch_size" in asked.model_fields_set else None
    )


def export(
    run: Run | Path | str,
    to: str = "hf",
    *,
    quantize: str | None = None,
    adapter: bool = False,
    out: Path | str | None = None,
    force: bool = False,
) -> Exported:
    """Write a run's model for other programs, once it is proven to be the same model; nothing is left if it is not."""
    run = open_run(run)
    with lock(run.path):  # its files must be those of one model, from the first to the last that is read
        job = plan(run, to, quantize, adapter, out, force)
        return carry_out(job, parts(run.located(run.config()).data, TERMINAL), TERMINAL)
