"""The verbs that measure: `evaluate`, `compare`, `sweep`. Command line -> pipeline -> screen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from heedful.commands.arguments import (
    Columns,
    Data,
    Format,
    Json,
    Model,
    Recipe,
    RunPath,
    Set,
    columns_of,
    merge_overrides,
    refuse_ignored,
)
from heedful.errors import UsageError

if TYPE_CHECKING:
    from heedful.evaluate.endpoint import Endpoint

JUDGE_KEY = "HEEDFUL_JUDGE_KEY"  # the environment variable that may hold the judge's key


def evaluate(
    run: RunPath,
    data: Annotated[
        str | None, typer.Option("--data", help="Evaluate on all rows of this data set instead of the test rows.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="URL", help="OpenAI-compatible server whose model judges the answers."),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", help="Name of the judging model on that server.")
    ] = None,
    judge_by: Annotated[
        Literal["grade", "pairs", "both"] | None,
        typer.Option("--judge-by", help="Grade each answer from 0 to 100 (the default), compare in pairs, or both."),
    ] = None,
    judge_key_file: Annotated[
        Path | None, typer.Option("--judge-key-file", help=f"File that holds the server's key; or set {JUDGE_KEY}.")
    ] = None,
    format: Format = None,
    columns: Columns = None,
    settings: Set = None,
    json: Json = False,
) -> None:
    """Score the base and the tuned model on the test rows."""
    endpoint = endpoint_of(judge, judge_model, judge_key_file)
    if endpoint is None:
        refuse_ignored("without --judge", {"--judge-by": judge_by})
    if data is None:
        refuse_ignored("without --data", {"--format": format, "--columns": columns})
    from heedful.evaluate.held_back import evaluation_config
    from heedful.run import open_run

    overrides = merge_overrides(settings, data__format=format, data__columns=columns_of(columns))
    evaluation_config(open_run(run), overrides, data)  # before the libraries are imported, which takes seconds
    from heedful import pipeline
    from heedful.report import screen, tables

    scores = pipeline.evaluate(run, data, settings=overrides, judge=endpoint, judge_by=judge_by or "grade")
    if json:
        screen.show_json(scores)
    else:
        tables.show_evaluation(scores)


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The run to compare against.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The run that is compared with it.")],
    common: Annotated[bool, typer.Option("--common", help="Compare on the rows that both were evaluated on.")] = False,
    data: Annotated[
        str | None, typer.Option("--data", help="Compare on this data set, on which both were evaluated.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare two runs on the same rows, score by score.

    The comparison is also written, as a page, into the second run's folder.
    """
    from heedful import comparing
    from heedful.report import screen, tables

    result = comparing.compare(run_a, run_b, common=common, data=data)
    if json:
        screen.show_json(result)
    else:
        tables.show_comparison(result)


def sweep(
    data: Data = None,
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", metavar="SECTION.KEY=VALUE,VALUE", help="Values of a setting to try; may be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds to train each combination with.")] = 1,
    model: Model = None,
    recipe: Recipe = None,
    settings: Set = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write the sweep's runs to.")] = None,
    json: Json = False,
) -> None:
    """Train with every combination of some settings and compare.

    The winner's settings are written as a recipe.
    """
    from heedful.checking import precheck_training

    overrides = merge_overrides(settings)
    precheck_training(data, model, recipe, overrides)
    from heedful import sweep as grid
    from heedful.report import screen, tables

    result = grid.sweep(data, vary=vary or [], seeds=seeds, model=model, recipe=recipe, settings=overrides, out=out)
    if json:
        screen.show_json(result)
    else:
        tables.show_sweep(result)


def endpoint_of(url: str | None, model: str | None, key_file: Path | None) -> Endpoint | None:
    """Make the judge's endpoint from its options; UsageError if only some of them are given."""
    if url is None:
        if model is not None or key_file is not None:
            raise UsageError("A judge needs --judge URL.", "Write it as --judge http://127.0.0.1:11434/v1.")
        return None
    if model is None:
        raise UsageError("--judge needs --judge-model NAME.", "Its server lists the names under /models.")
    from heedful.evaluate.endpoint import Endpoint
    from heedful.serve.key import read_key

    given = {name: key for name, key in os.environ.items() if key.strip()}  # a judge of one's own needs no key
    return Endpoint(url, model, read_key(key_file, JUDGE_KEY, given) or "")
