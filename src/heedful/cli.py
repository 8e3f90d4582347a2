"""argv -> a verb of `commands/`, whose errors are one sentence and an exit code."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from contextlib import nullcontext, suppress
from typing import Annotated, NoReturn

import typer

from heedful import __version__
from heedful.clean import check_unicode
from heedful.commands import learn, measure, report, ship, talk
from heedful.errors import Follow, HeedfulError, Interrupted
from heedful.system import launch, streams
from heedful.system.machine import limit_threads_to_quota

INTERRUPTED = 130
GC_THRESHOLDS = (50_000, 20, 10)  # libraries make 400,000 objects that stay: looking through them takes half a second

app = typer.Typer(
    name="heedful",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its table cuts the names of options at 80 columns
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


VERBS = (  # in the order in which --help lists them
    learn.demo, learn.check, learn.train, measure.evaluate, measure.compare, measure.sweep, talk.generate, talk.chat,
    talk.serve, talk.feedback, learn.models, learn.doctor, report.report, ship.export, ship.push,
)  # fmt: skip
for verb in VERBS:
    app.command()(verb)
ALONE = {verb.__name__ for verb in VERBS} - {"train"}


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"heedful {__version__}")
        raise typer.Exit


@app.callback(help="From a file of instructions to an assistant, on the machine you have.")
def heedful(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Take what comes before a verb."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; every error a user can cause is one sentence and an exit code."""
    streams.prepare()
    gc.set_threshold(*GC_THRESHOLDS)
    limit_threads_to_quota()
    launch.ends_with_its_error = True
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    if not debug:
        _quieten_libraries()
    try:
        for argument in arguments:
            check_unicode("The argument", argument)
        _run([argument for argument in arguments if argument != "--debug"])
    except BrokenPipeError:  # the reader of stdout left, as `head` does
        streams.let_go()
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            streams.tell(traceback.format_exc())
        _fail(*_told(error))


def _run(arguments: list[str]) -> None:
    """Run a verb and flush what it printed; an error of the verb takes precedence over one of writing."""
    if ALONE.intersection(arguments[:1]) and not {"-h", "--help"}.intersection(arguments):
        launch.refuse_ranks(arguments[0])
    try:
        app(arguments)
    except BaseException as end:
        if isinstance(end, SystemExit) and isinstance(end.__context__, BrokenPipeError):  # typer and rich end with 1
            raise end.__context__ from None
        code = end.code if isinstance(end, SystemExit) else 1
        with suppress(OSError) if code else nullcontext():
            streams.deliver()
        if code == INTERRUPTED and not isinstance(end, Follow):  # how typer reports a Ctrl-C
            raise KeyboardInterrupt from None
        raise


def _told(error: BaseException) -> tuple[str, int]:
    """Say in a sentence what went wrong, and give the exit code."""
    if isinstance(error, (HeedfulError, Interrupted)):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", INTERRUPTED
    if isinstance(error, OSError):
        return f"{error.filename or 'The system'}: {error.strerror or error}.", 1
    bug = f"Unexpected error, a bug in heedful: {type(error).__name__}: {error}."
    return f"{bug} Run it again with --debug for the traceback.", 1


def _fail(text: str, exit_code: int) -> NoReturn:
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
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost rank is 60 lines of stack frames as a warning
