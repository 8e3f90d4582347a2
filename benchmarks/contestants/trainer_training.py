"""transformers' Trainer, with labels made for it; also what TRL's trainer shares with it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from benchmarks.child import Task, run

IGNORED = -100


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Takes the time between the ends of updates, so that whatever a trainer does in between counts."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if not self.times:
            self.times.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return [after - before for before, after in pairwise(self.times)]


class Counting:
    """A collator that remembers how many rows, tokens and targets each update had."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]) -> None:
        self.collate = collate
        self.rows: list[int] = []
        self.tokens: list[int] = []
        self.targets: list[int] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.collate(rows)
        self.rows.append(sum(len(row.get("seq_lengths") or [1]) for row in rows))  # a packed row holds several
        self.tokens.append(sum(len(row["input_ids"]) for row in rows))
        self.targets.append(int((batch["labels"][:, 1:] != IGNORED).sum()))
        return batch


def labelled(task: Task) -> list[dict[str, list[int]]]:
    """List the rows of all updates in order, with the labels that both trainers read."""
    rows = [row for step in range(task.units) for row in task.workload.rows(step, task.learn)]
    return [
        {"input_ids": ids, "labels": [i if learned else IGNORED for i, learned in zip(ids, flags, strict=True)]}
        for ids, flags in rows
    ]


def arguments(task: Task, folder: str) -> dict[str, Any]:
    """Return the settings that both trainers are run with; a task's `arguments` come over them."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": len(task.workload.groups[0]),
        "max_steps": task.units,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_steps": 1,  # the losses tell whether all learn the same
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        **task.settings.get("arguments", {}),
    }


def outcome(task: Task, trainer: Trainer, clock: Clock, counts: Counting) -> dict[str, Any]:
    kept = slice(task.warm_up, task.units)
    return {
        "seconds": clock.seconds()[kept],
        "tokens": counts.tokens[kept],
        "targets": counts.targets[kept],
        "losses": [event["loss"] for event in trainer.state.log_history if "loss" in event],
    }


def train(task: Task) -> dict[str, Any]:
    model = AutoModelForCausalLM.from_pretrained(task.workload.model, dtype=torch.float32)
    clock, counts = Clock(), Counting(lambda rows: pad(rows, task.workload.pad_id))
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(**arguments(task, folder))
        trainer = Trainer(model, settings, data_collator=counts, train_dataset=labelled(task), callbacks=[clock])
        trainer.train()
    return outcome(task, trainer, clock, counts)


def pad(rows: list[dict[str, list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Fill rows up to the longest; the model shifts the labels itself."""
    width = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": pad_id, "labels": IGNORED, "attention_mask": 0}
    full = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    return {
        key: torch.tensor([row[key] + [value] * (width - len(row[key])) for row in full]) for key, value in fill.items()
    }


if __name__ == "__main__":
    run(train)
