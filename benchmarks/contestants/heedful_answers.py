"""heedful's engine: all prompts in its own batches, or (`alone`) one after another."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from benchmarks import heedful_api
from benchmarks.answering import apart, longest, prompts, stop_ids, together
from benchmarks.child import Task, run


def answer(task: Task) -> dict[str, Any]:
    wanted = prompts(task)
    engine = heedful_api.open_engine(task.workload.model, task.settings.get("precision"), wanted, stop_ids(task))
    heedful_api.generate(engine, list(wanted)[:8], 4)  # warm-up
    if not task.settings.get("alone"):
        started = time.perf_counter()
        answers = heedful_api.generate(engine, list(wanted), longest(task))
        return together(time.perf_counter() - started, answers)
    times, answers = [time.perf_counter()], {}
    for number in wanted:
        answers |= heedful_api.generate(engine, [number], longest(task))
        times.append(time.perf_counter())
    return apart([after - before for before, after in pairwise(times)], answers)


if __name__ == "__main__":
    run(answer)
