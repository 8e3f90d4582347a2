"""The verbs on the way to a run: `demo`, `check`, `train`; and what one may ask before: `models`, `doctor`.

What needs torch is imported inside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from heedful.commands.arguments import (
    Columns,
    Data,
    Format,
    Json,
    Model,
    OnBadRow,
    Recipe,
    Set,
    TemplateName,
    columns_of,
    merge_overrides,
    refuse_ignored,
    seconds_of,
)
from heedful.errors import UsageError, typed
from heedful.system.launch import launched


def demo(
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write the run to.")] = None,
    settings: Set = None,
) -> None:
    """Tell the whole story, with three minutes of training: check, train, compare."""
    from heedful.commands import demo as story

    story.tell(out, merge_overrides(settings))


def check(
    data: Data = None,
    model: Model = None,
    recipe: Recipe = None,
    settings: Set = None,
    format: Format = None,
    columns: Columns = None,
    on_bad_row: OnBadRow = None,
    template: TemplateName = None,
    show: Annotated[
        int,
        typer.Option(
            "--show",
            min=0,
            help="Also print this many rows as the model sees them; with --run, how many rows are listed (10).",
        ),
    ] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="File to store the receipt in.")] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Instead list the rows that this run found most suspect.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what becomes of each row, or which rows a run suspects.

    The receipt of the data is printed and stored.
    """
    if run is not None:
        from heedful.commands import suspects

        asked_in_vain = {
            "DATA": data, "--model": model, "--recipe": recipe, "--set": settings, "--format": format,
            "--columns": columns, "--on-bad-row": on_bad_row, "--template": template, "--out": out,
        }  # fmt: skip
        refuse_ignored("with --run", asked_in_vain)
        suspects.show(run, show or 10, json)
        return
    refuse_ignored("with --json", {"--show": json and show})
    from heedful import checking
    from heedful.commands import receipt_file
    from heedful.report import screen

    overrides = merge_overrides(
        settings,
        data__format=format,
        data__columns=columns_of(columns),
        data__on_bad_row=on_bad_row,
        encode__template=template,
    )
    receipt_file.check_path(out)
    ready = checking.check(data, model=model, recipe=recipe, settings=overrides)
    receipt_file.store(ready.receipt, out)
    if json:
        screen.show_json({**ready.receipt, "batch_widths": ready.receipt["encoding"]["batch_widths"]})
    else:
        screen.show_receipt(ready.receipt)
        for number in map(ready.train.number, range(min(show, len(ready.train)))):
            row = ready.splits.train[number]
            screen.show_segments(str(row.place), ready.encoder.template.segments(row.messages))


def train(
    data: Data = None,
    model: Model = None,
    recipe: Recipe = None,
    settings: Set = None,
    out: Annotated[Path | None, typer.Option("--out", "--output-dir", help="Folder to write the run to.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Which weights to train: full (all) or lora (adapters).")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training rows.")] = None,
    batch_size: Annotated[str | None, typer.Option("--batch-size", help="Rows per update, or auto.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", "--learning-rate", help="Peak learning rate.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", "--max-seq-length", help="Longest example, in tokens.")
    ] = None,
    mask_prompt: Annotated[
        bool | None, typer.Option("--mask-prompt/--train-on-prompt", help="Learn only the answers, or the prompts too.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed of the split, the order of rows and the adapters.")
    ] = None,
    format: Format = None,
    columns: Columns = None,
    on_bad_row: OnBadRow = None,
    template: TemplateName = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Time to fit the training into, as 90s, 10m or 2h.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run, bit for bit.")] = False,
    show_settings: Annotated[
        bool, typer.Option("--settings", help="List every setting with its meaning, and exit.")
    ] = False,
    json: Json = False,
) -> None:
    """Train on a data set, then score base and tuned on its test rows."""
    if show_settings:
        from heedful.commands.list_settings import list_settings

        list_settings()
        return
    from heedful.begin import newest_run
    from heedful.checking import precheck_training
    from heedful.report import screen, tables
    from heedful.system.atomic import read_json

    supervise = None if mask_prompt is None else "response" if mask_prompt else "all"
    overrides = merge_overrides(
        settings,
        data__format=format,
        data__columns=columns_of(columns),
        data__on_bad_row=on_bad_row,
        data__seed=seed,
        encode__template=template,
        encode__max_tokens=max_tokens,
        encode__supervise=supervise,
        train__method=method,
        train__epochs=epochs,
        train__batch_size=batch_size,
        train__lr=lr,
        train__seed=seed,
    )
    seconds = seconds_of(budget)
    if launched():
        pass  # ranks look together, and say it once
    elif resume:
        newest_run(out)
    else:
        precheck_training(data, model, recipe, overrides)
    from heedful import pipeline

    run = pipeline.train(data, model=model, recipe=recipe, settings=overrides, out=out, resume=resume, budget=seconds)
    evaluation = read_json(run.evaluation_file) if run.evaluation_file.exists() else None
    if json:
        screen.show_json({"run": str(run.path), "model": str(run.model), "evaluation": evaluation})
        return
    if evaluation:
        tables.show_evaluation(evaluation)
    screen.out.print(
        f"The report: {run.report_file}; chat with the run: heedful chat {typed(run.path)}", soft_wrap=True
    )


def models(
    action: Annotated[Literal["list", "pull"], typer.Argument(help="list the names, or pull (fetch) one.")] = "list",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The model to pull.")] = None,
    json: Json = False,
) -> None:
    """List the short names of models, or fetch one."""
    from heedful.commands.models import list_models, pull

    if action == "list":
        refuse_ignored("with list", {f"NAME ({name})": name})
        list_models(json)
    elif name is None:
        raise UsageError("`heedful models pull` needs a NAME.", "`heedful models` lists them.")
    else:
        refuse_ignored("with pull", {"--json": json})
        print(pull(name))


def doctor(
    data: Annotated[str | None, typer.Argument(help="Data to estimate the memory and time of a training for.")] = None,
    model: Model = None,
    recipe: Recipe = None,
    settings: Set = None,
    json: Json = False,
) -> None:
    """Show what this machine can do, and what a training would take."""
    from heedful.checking import precheck_training

    overrides = merge_overrides(settings)
    if data or model or recipe or overrides:
        precheck_training(data, model, recipe, overrides)
    from heedful.commands import doctor as examination

    examination.examine(data, model, recipe, overrides, json)
