"""heedful's own training, as its users start it; the task's settings are heedful's."""

from __future__ import annotations

from typing import Any

from benchmarks import heedful_api
from benchmarks.child import Task, run


def train(task: Task) -> dict[str, Any]:
    supervise = {"encode.supervise": "all" if task.learn == "all" else "response"}
    steps, validation = heedful_api.train(
        task.workload, {**supervise, **task.settings.get("settings", {})}, task.units, task.settings.get("validate", 0)
    )
    kept = slice(task.warm_up, None)
    tokens = [step["tokens"] for step in steps]
    return {
        "seconds": [step["seconds"] for step in steps][kept],
        "tokens": [after - before for before, after in zip([0, *tokens], tokens, strict=False)][kept],
        "targets": [step["targets"] for step in steps][kept],
        "losses": [step["loss"] for step in steps],
        "validation_loss": validation,
    }


if __name__ == "__main__":
    run(train)
