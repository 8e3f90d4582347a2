"""Which of several processes this is, in the variables that torchrun sets for each."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from heedful.errors import Follow, UsageError

TORCHRUN_ENDS_IT = 5.0  # seconds, many times over: it ends all processes with the first that fails
SIXTEEN_BITS = 2**16
ends_with_its_error = False  # of this process: the command line does, a program may catch the error and go on


@dataclass(frozen=True)
class Launch:
    """The number of this process, how many there are in all and on its machine, and where they meet."""

    rank: int
    count: int
    local_count: int
    host: str
    port: int


def launched() -> Launch | None:
    """Read torchrun's variables; None for a process that is alone."""
    count = _count()
    if count == 1:
        return None
    rank, local_count = _number("RANK", range(count)), _number("LOCAL_WORLD_SIZE", range(1, count + 1), "1")
    return Launch(rank, count, local_count, _variable("MASTER_ADDR"), _number("MASTER_PORT", range(1, SIXTEEN_BITS)))


def refuse_ranks(verb: str) -> None:
    """Refuse a verb that each of several processes would do as if it were alone."""
    if _count() == 1:
        return
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if by_torchrun and _number("LOCAL_RANK", range(SIXTEEN_BITS), "0") > 0:  # the first process of the machine says it
        time.sleep(TORCHRUN_ENDS_IT)
        raise Follow(UsageError.exit_code)
    raise UsageError(
        f"Only `heedful train` runs as several processes, but WORLD_SIZE={os.environ['WORLD_SIZE']}.",
        f"Start `heedful {verb}` without torchrun, or unset WORLD_SIZE.",
    )


def _count() -> int:
    return _number("WORLD_SIZE", range(1, SIXTEEN_BITS), "1")


def _number(name: str, allowed: range, default: str = "") -> int:
    text = _variable(name, default)
    if not text.isdecimal() or int(text) not in allowed:
        raise _wrong(f"{name}={text} is not a number from {allowed[0]} to {allowed[-1]}")
    return int(text)


def _variable(name: str, default: str = "") -> str:
    if text := os.environ.get(name) or default:
        return text
    raise _wrong(f"{name} is empty" if name in os.environ else f"{name} is not set")


def _wrong(what: str) -> UsageError:
    return UsageError(
        f"The environment describes several processes, but {what}.", "Start them with torchrun, or unset WORLD_SIZE."
    )
