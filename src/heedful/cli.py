"""argv -> pipeline. What needs torch is imported inside the verbs, so that `heedful --help` is instant."""

from __future__ import annotations

import json as json_format
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from heedful import ship
from heedful.arguments import columns_of, named, seconds_of
from heedful.errors import HeedfulError, Interrupted, UsageError

app = typer.Typer(
    name="heedful",
    help="From a file of instructions to an assistant, on the machine you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[str | None, typer.Argument(help="A file, folder, URL, data set id, builtin or builtin:zh.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `heedful train` made.")]
RunOrModel = Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run, or a model by name or folder.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A short name, folder, .gguf file or hub id.")]
Recipe = Annotated[str | None, typer.Option("--recipe", "--config", "-c", help="A YAML file of settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Format = Annotated[str | None, typer.Option("--format", help="The rows' format, if detection is wrong.")]
Columns = Annotated[str | None, typer.Option("--columns", metavar="FIELD=COLUMN,...", help="Other names of fields.")]
OnBadRow = Annotated[str | None, typer.Option("--on-bad-row", help="error, or skip and count.")]
TemplateName = Annotated[str | None, typer.Option("--template", help="auto, alpaca, chatml or own.")]


def emit(value: Any) -> None:
    print(json_format.dumps(value, indent=1, ensure_ascii=False))


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option("--out", help="Where the run goes.")] = None,
    settings: Set = None,
) -> None:
    """The whole story on the defaults: check, train, before and after."""
    from heedful import demo as story

    story.tell(out, named(settings))


@app.command()
def check(
    data: Data = None,
    model: Model = None,
    recipe: Recipe = None,
    settings: Set = None,
    format: Format = None,
    columns: Columns = None,
    on_bad_row: OnBadRow = None,
    template: TemplateName = None,
    show: Annotated[int, typer.Option("--show", min=0, help="Print this many rows as the model sees them.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Store the receipt in this file.")] = None,
    json: Json = False,
) -> None:
    """Read and encode a data set; print its receipt and store it."""
    from heedful import pipeline
    from heedful.catalogue import cache_home
    from heedful.report import screen
    from heedful.run import write_json

    asked = named(settings, data__format=format, data__columns=columns_of(columns), data__on_bad_row=on_bad_row)
    asked |= {"encode.template": template} if template else {}
    ready = pipeline.check(data, model=model, recipe=recipe, settings=asked)
    out = out or cache_home() / "receipts" / f"{ready.fingerprint()[:16]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, ready.receipt)
    screen.say(f"The receipt is stored in {out}.")
    if json:
        emit({**ready.receipt, "batch_widths": ready.receipt["encoding"]["batch_widths"]})
        return
    screen.show_receipt(ready.receipt)
    for conversation in ready.splits.train[:show]:
        screen.show_segments(str(conversation.place), ready.encoder.template.segments(conversation.messages))


@app.command()
def train(
    data: Data = None,
    model: Model = None,
    recipe: Recipe = None,
    settings: Set = None,
    out: Annotated[Path | None, typer.Option("--out", "--output-dir", help="The run's folder.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="full or lora.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    batch_size: Annotated[str | None, typer.Option("--batch-size", help="Rows an update, or auto.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", "--learning-rate")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "--max-seq-length")] = None,
    mask_prompt: Annotated[bool | None, typer.Option("--mask-prompt/--train-on-prompt")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the split, the order and the adapters.")] = None,
    format: Format = None,
    columns: Columns = None,
    on_bad_row: OnBadRow = None,
    template: TemplateName = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Fit the training into 90s, 10m or 2h.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run, bit for bit.")] = False,
    show_settings: Annotated[bool, typer.Option("--settings", help="List every setting and leave.")] = False,
    json: Json = False,
) -> None:
    """Train on a data set; then answer its test rows before and after."""
    if show_settings:
        return list_settings()
    from heedful import pipeline
    from heedful.report import screen
    from heedful.run import read_json

    supervise = None if mask_prompt is None else "response" if mask_prompt else "all"
    asked = named(
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
    run = pipeline.train(
        data, model=model, recipe=recipe, settings=asked, out=out, resume=resume, budget=seconds_of(budget)
    )
    evaluation = read_json(run.evaluation_file) if run.evaluation_file.exists() else None
    if json:
        emit({"run": str(run.path), "model": str(run.model), "evaluation": evaluation})
        return None
    if evaluation:
        screen.show_evaluation(evaluation)
    screen.out.print(f"The run lies in {run.path}; talk to it with: heedful chat {run.path}", soft_wrap=True)
    return None


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[str | None, typer.Option("--data", help="Evaluate on all rows of this data set instead.")] = None,
    settings: Set = None,
    json: Json = False,
) -> None:
    """Score the base and the tuned model on the test rows."""
    from heedful import pipeline
    from heedful.report import screen

    scores = pipeline.evaluate(run, data, settings=named(settings))
    if json:
        emit(scores)
    else:
        screen.show_evaluation(scores)


@app.command()
def generate(
    run_or_model: RunOrModel,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="The instruction.")] = None,
    input: Annotated[str, typer.Option("--input", help="An alpaca row's input, joined to the prompt.")] = "",
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Answer every row of this data set.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the answered rows go (JSON).")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature")] = None,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    settings: Set = None,
    json: Json = False,
) -> None:
    """Answer one prompt, or every row of a data set."""
    from heedful import verbs

    asked = named(settings, generate__max_tokens=max_tokens, generate__temperature=temperature, generate__seed=seed)
    if (prompt is None) == (data is None):
        raise UsageError("Give either --prompt TEXT or --data FILE.")
    if data is not None:
        verbs.answer_file(run_or_model, data, out, asked)
    else:
        verbs.answer_one(run_or_model, prompt or "", input, system, asked, as_json=json)


@app.command()
def chat(
    run_or_model: RunOrModel,
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens")] = None,
    settings: Set = None,
) -> None:
    """Talk to a run or a model in the terminal."""
    from heedful import verbs

    verbs.talk(
        run_or_model, system, named(settings, generate__max_tokens=max_tokens, generate__temperature=temperature)
    )


@app.command()
def models(
    action: Annotated[Literal["list", "pull"], typer.Argument(help="list, or pull NAME.")] = "list",
    name: Annotated[str | None, typer.Argument(metavar="NAME")] = None,
    json: Json = False,
) -> None:
    """List the short names of models, or fetch one and print its folder."""
    from heedful import verbs

    if action == "pull" and name is None:
        raise UsageError("`heedful models pull` needs a NAME.", "`heedful models` lists them.")
    if action == "pull" and name is not None:
        print(verbs.pull(name))
    else:
        verbs.list_models(json)


@app.command()
def doctor(
    data: Annotated[str | None, typer.Argument(help="What to train on: memory and time are told for it.")] = None,
    model: Model = None,
    recipe: Recipe = None,
    settings: Set = None,
    json: Json = False,
) -> None:
    """Say what this machine can do, and what a training on it would take."""
    from heedful import doctor as examination

    examination.examine(data, model, recipe, named(settings), json)


ship.register(app)


def list_settings() -> None:
    from rich.table import Table

    from heedful.config import explain
    from heedful.report import screen

    table = Table("setting", "default", "meaning", box=None)
    for leaf, default, meaning in explain():
        table.add_row(leaf, default, meaning)
    screen.out.print(table)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; every error a user can cause is one sentence and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if "--debug" in arguments:
        app([argument for argument in arguments if argument != "--debug"])
        return
    _quieten_libraries()
    try:
        app(arguments)
    except HeedfulError as error:
        _fail(str(error), error.exit_code)
    except Interrupted as error:
        _fail("Interrupted; the run is saved: heedful train --resume continues it.", error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except BrokenPipeError:  # the reader of stdout left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        _fail(f"{error.filename or 'The system'}: {error.strerror or error}.", 1)
    except Exception as error:
        _fail(f"Something broke that should not: {type(error).__name__}: {error}. Run it again with --debug.", 1)


def _fail(text: str, exit_code: int) -> None:
    from heedful.report import screen

    screen.problem(text)
    raise SystemExit(exit_code)


def _quieten_libraries() -> None:
    """Keep warnings of libraries off the user's screen; --debug shows them."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


if __name__ == "__main__":
    main()
