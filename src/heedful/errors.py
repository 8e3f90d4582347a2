"""Every error a user can cause: one sentence that says what is wrong and where, one that says what to do.

HeedfulError            exit code 1
├── UsageError          2   the command line or the configuration, or a run that another process holds
│   └── BudgetTooShort      not one update can be made in the time
├── DataError           3   a file of rows
├── ModelError          1   weights, tokenizer, chat template
│   └── NotFinite           what a model computes is no number
├── RunError            1   the run directory, its checkpoints
│   └── Diverged            a training that left the numbers there are, and comes to no model
└── ExportError         1   an artefact that could not be made, or that is not the run's model

Interrupted             128 + the signal's number: a signal ended the run after a save; not a failure
Follow                  the exit code of another rank, which has said why
"""

from __future__ import annotations

import difflib
import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def typed(path: Path | str) -> str:
    """Return a path as a shell takes it, and no command takes it for an option."""
    name = str(path)
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


class HeedfulError(Exception):
    """What the user did or has, said in a sentence; `fix` says what to do about it."""

    exit_code = 1

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem} {self.fix}".strip()


class UsageError(HeedfulError):
    exit_code = 2


class BudgetTooShort(UsageError):
    """A training that cannot be done in the seconds it was given; `needed` would do for a single update."""

    def __init__(self, problem: str, fix: str, needed: float) -> None:
        super().__init__(problem, fix)
        self.needed = needed


class DataError(HeedfulError):
    exit_code = 3


class ModelError(HeedfulError):
    pass


class NotFinite(ModelError):
    """What a model computes is NaN or infinite."""

    def __init__(self) -> None:
        super().__init__(
            "The model's logits are NaN or infinite.", "Check its weights; if it was trained here, lower train.lr."
        )


class RunError(HeedfulError):
    pass


class Diverged(RunError):
    """A training that left the numbers there are, and comes to no model."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, "Start another run with a lower train.lr.")


class ExportError(HeedfulError):
    pass


class Interrupted(Exception):
    """A signal asked the run to end, and it was saved before it did."""

    def __init__(self, signal_number: int, run: Path) -> None:
        super().__init__(f"Interrupted; the run is saved: {resuming(run)} continues it.")
        self.exit_code = 128 + signal_number


class Follow(SystemExit):
    """Ends a rank because another one ended, which has said why."""


def resuming(run: Path) -> str:
    """Return the command that goes on with a run."""
    return f"heedful train --resume --out {typed(run)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'lr'?" for the nearest known word, or "" when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else ""


def install(*packages: str) -> str:
    """Say how packages are installed to where heedful is, whichever environment is active."""
    return f"Run {typed(sys.executable)} -m pip install {' '.join(map(shlex.quote, packages))}."


def install_extra(extra: str) -> str:
    """Say how the packages of an extra are installed: nothing of heedful itself is on a package index."""
    from importlib.metadata import PackageNotFoundError, requires  # it takes time that `heedful --help` has not

    try:
        wanted = [line.replace('"', "'").partition(";") for line in requires("heedful") or ()]
    except PackageNotFoundError:  # run from a folder of sources
        return install("-e", f".[{extra}]").removesuffix(".") + " in your clone of heedful."
    return install(*(package.strip() for package, _, when in wanted if when.strip() == f"extra == '{extra}'"))


def reason_of(error: BaseException) -> str:
    """Return the first line of what a library's error says, without its full stop; its type where it says nothing."""
    return str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__


def as_written(value: Any) -> str:
    """Return a setting's value as a recipe and --set have it: null, true, a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def listed(names: Iterable[str]) -> str:
    """Write "a", "b" and "c"; of many names the first twelve."""
    quoted = [f'"{name}"' for name in names]
    head = quoted if len(quoted) <= 12 else [*quoted[:12], f"{len(quoted) - 12:,} more"]
    return " and ".join(filter(None, [", ".join(head[:-1]), *head[-1:]])) or "no columns"
