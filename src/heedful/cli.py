"""argv -> a verb of `commands/`, whose errors are one sentence and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import nullcontext, suppress

import typer

from heedful import streams
from heedful.commands import learn, measure, report, ship, talk
from heedful.errors import Follow, HeedfulError, Interrupted
from heedful.machine import limit_threads_to_quota

INTERRUPTED = 130
GC_THRESHOLDS = (50_000, 20, 10)  # libraries make 400,000 objects that stay: looking through them takes half a second

DEBUG_AGAIN = "Run it again with --debug for the traceback."

app = typer.Typer(
    name="heedful",
    help="From a file of instructions to an assistant, on the machine you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


VERBS = (  # in the order in which --help lists them
    learn.demo, learn.check, learn.train, measure.evaluate, measure.compare, measure.sweep, talk.generate, talk.chat,
    talk.serve, talk.feedback, learn.models, learn.doctor, report.report, ship.export, ship.push,
)  # fmt: skip
for verb in VERBS:
    app.command()(verb)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; every error a user can cause is one sentence and an exit code."""
    streams.prepare()
    gc.set_threshold(*GC_THRESHOLDS)
    limit_threads_to_quota()
    arguments = sys.argv[1:] if argv is None else argv
    if "--debug" in arguments:
        app([argument for argument in arguments if argument != "--debug"])
        return
    _quieten_libraries()
    try:
        _run(arguments)
    except (HeedfulError, Interrupted) as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted.", INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout left, as `head` does
        streams.let_go()
    except OSError as error:
        _fail(f"{error.filename or 'The system'}: {error.strerror or error}.", 1)
    except Exception as error:
        _fail(f"Unexpected error, a bug in heedful: {type(error).__name__}: {error}. {DEBUG_AGAIN}", 1)


def _run(arguments: list[str]) -> None:
    """Run a verb and flush what it printed; an error of the verb takes precedence over one of writing."""
    try:
        app(arguments)
    except BaseException as end:
        code = end.code if isinstance(end, SystemExit) else 1
        with suppress(OSError) if code else nullcontext():
            streams.deliver()
        if code == INTERRUPTED and not isinstance(end, Follow):  # so typer tells of a Ctrl-C, without a word
            raise KeyboardInterrupt from None
        raise


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
