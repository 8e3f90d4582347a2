"""One of two versions of heedful that take turns: for each line that comes in, a unit of work, and its seconds.

Started by `benchmarks.earlier` with that version's code on the path.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import heedful_api
from benchmarks.workload import Workload, read

TOKENS = 128  # of an answer, whatever the model would stop at


class Turns:
    """The other end of a pipe: `over` tells how long the unit took that is done, and waits to be called again."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what heedful prints is no answer to a call
        self.started: float | None = None  # seconds; None before the first call

    def over(self) -> None:
        print(0.0 if self.started is None else time.perf_counter() - self.started, file=self.out)
        if not sys.stdin.readline():
            os._exit(0)  # amid a training that nobody waits for
        self.started = time.perf_counter()


def updates(work: Workload, precision: str, over: Callable[[], None]) -> None:
    """Train; a unit ends with the weights of an update."""
    from heedful.train.learner import Learner

    update = Learner.update

    def update_and_wait(self: Learner, step: int, loss: float) -> float:
        norm = update(self, step, loss)
        over()
        return norm

    Learner.update = update_and_wait  # type: ignore[method-assign]
    heedful_api.train(work, {"train.precision": precision}, steps=10**4, validate=0)


def answers(work: Workload, precision: str, over: Callable[[], None]) -> None:
    """Answer one prompt after another; a unit is one answer."""
    engine = heedful_api.open_engine(work.model, precision, dict(enumerate(work.prompts)), stop=[])
    while True:
        for number in range(len(work.prompts)):
            heedful_api.generate(engine, [number], TOKENS)
            over()


UNITS = {"smollm2": updates, "gpt2": updates, "answers": answers}  # what is done with a workload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--precision", required=True)
    given = parser.parse_args()
    work = read(given.workload)
    UNITS[work.name](work, given.precision, Turns().over)


if __name__ == "__main__":
    main()
