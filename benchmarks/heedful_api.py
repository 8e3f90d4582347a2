"""All that the benchmarks ask of heedful, in one place: when its interface moves, this file does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import heedful
from benchmarks.workload import Workload
from heedful.encode.batch import plan
from heedful.evaluate.score import question

Settings = dict[str, Any]
GROUP = 8
SEED = 123
ROWS = {"train.batch_size": GROUP, "train.drop_last": True, "train.seed": SEED, "train.epochs": 10**4}


def encode(model: Path, data: str, settings: Settings) -> dict[str, Any]:
    """Give a data set as plain lists: what `Workload` holds besides its names."""
    ready = heedful.check(data, model=str(model), settings={**settings, "encode.supervise": "response"})
    encoder, tokenizer = ready.encoder, ready.encoder.tokenizer
    epochs = range(1 + 100 * GROUP // len(ready.train))  # a small set gives its updates again
    return {
        "pad_id": int(tokenizer.eos_token_id),
        "stop_ids": sorted(encoder.stop_ids),
        "ids": [example.ids.tolist() for example in ready.train],
        "response": [example.supervised.tolist() for example in ready.train],
        "groups": [group for epoch in epochs for group in plan(len(ready.train), GROUP, SEED, epoch, drop_last=True)],
        "prompts": [encoder.prompt_ids(question(row)) for row in ready.splits.test],
    }


def train(work: Workload, settings: Settings, steps: int, validate: int) -> tuple[list[dict[str, Any]], float | None]:
    """Train on a workload for some steps; give the log's line of each, and the last validation loss.

    With `validate` = 0 one update's worth of rows is validated before and after, outside the timed steps.
    """
    quiet = {"evaluate.after_training": False, "generate.max_tokens": 1, "train.keep": "last", "train.save_every": 10**6}
    validation = {"train.evaluate_every": validate} if validate else {"train.evaluate_batches": 1}
    given = {**ROWS, **quiet, **validation, **work.settings, **settings, "train.max_steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        run = heedful.train(work.data, model=work.model, settings=given, out=Path(folder) / "run")
        events = run.metrics()
    losses = [event["validation_loss"] for event in events if event["event"] == "validation"]
    return [event for event in events if event["event"] == "step"], losses[-1] if losses else None


def tune(run: Path, model: Path, data: str, settings: Settings, steps: int | None) -> None:
    """Train the model whose answers are timed, as a user would: one epoch on the defaults."""
    given = {**settings, "train.epochs": 1, "evaluate.after_training": False}
    heedful.train(data, model=str(model), settings=given | ({"train.max_steps": steps} if steps else {}), out=run)
