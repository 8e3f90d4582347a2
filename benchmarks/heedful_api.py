"""All that the benchmarks ask of heedful, in one place: when its interface moves, this file does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

import heedful
from benchmarks.flops import matmul_rate, update_flops
from benchmarks.workload import Workload
from heedful.encode.batch import Collator
from heedful.generate.engine import Engine
from heedful.records import Message, Sampling, TokenizedExample
from heedful.train.precision import resolve

__all__ = ["encode", "flops", "generate", "in_bf16", "matmul_rate", "open_engine", "train", "tune"]
Settings = dict[str, Any]
GROUP = 8
SEED = 123
ROWS = {"train.batch_size": GROUP, "train.drop_last": True, "train.seed": SEED, "train.epochs": 10**4}


def in_bf16() -> bool:
    """Say whether heedful, left to itself, multiplies bf16 on this machine; elsewhere the races are in fp32."""
    return resolve("auto") == "bf16"


def encode(model: Path, data: str, settings: Settings) -> dict[str, Any]:
    """Return a data set as plain lists: what `Workload` holds besides its names."""
    ready = heedful.check(data, model=str(model), settings={**ROWS, **settings, "encode.supervise": "response"})
    encoder, tokenizer = ready.encoder, ready.encoder.tokenizer
    epochs = range(1 + 100 * GROUP // len(ready.train))  # a small set gives its updates again
    return {
        "pad_id": int(tokenizer.eos_token_id),
        "stop_ids": sorted(encoder.stop_ids),
        "ids": [example.ids.tolist() for example in ready.train],
        "response": [example.supervised.tolist() for example in ready.train],
        "groups": [group for epoch in epochs for group in ready.order.epoch(epoch)],
        "prompts": [encoder.prompt_ids(row.prompt) for row in ready.splits.test],
    }


def train(work: Workload, settings: Settings, steps: int, validate: int) -> tuple[list[dict[str, Any]], float | None]:
    """Train on a workload for some steps; give the log's line of each, and the last validation loss.

    With `validate` = 0 one update's worth of rows is validated before and after, outside the timed steps.
    """
    quiet = {
        "evaluate.after_training": False,
        "generate.max_tokens": 1,
        "train.keep": "last",
        "train.save_every": 10**6,
    }
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


class Numbered:
    """A prompter that is asked for prompts by their numbers, so that every contestant reads the same ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompts: dict[int, list[int]], stop: list[int]) -> None:
        self.tokenizer, self.prompts, self.stop_ids = tokenizer, prompts, frozenset(stop)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        return self.prompts[int(messages[0].content)]


def open_engine(model: str, precision: str | None, prompts: dict[int, list[int]], stop: list[int]) -> Engine:
    """Open a folder as `heedful.load` does; without a precision, in heedful's own choice."""
    engine = heedful.load(model, settings={"generate.precision": precision or "auto"})
    engine.prompter = Numbered(engine.prompter.tokenizer, prompts, stop)
    return engine


def generate(engine: Engine, numbers: list[int], most: int) -> dict[int, list[int]]:
    """Answer prompts by their numbers; the answers' ids, with the stop token where one was given."""
    completions = engine.generate([str(number) for number in numbers], Sampling(max_tokens=most))
    stop = sorted(engine.prompter.stop_ids)[:1]  # which of the stop tokens it was is not told
    return {
        number: [*done.token_ids, *(stop if done.finish_reason == "stop" else [])]
        for number, done in zip(numbers, completions, strict=True)
    }


def flops(work: Workload, step: int) -> float:
    """Count what an update's tree must multiply."""
    collator = Collator("tree", work.pad_id, prompt_weight=0.0, batch_tokens=2**20)
    rows = [
        TokenizedExample(str(i), np.asarray(ids, np.int32), np.asarray(flags, np.bool_))
        for i, (ids, flags) in enumerate(work.rows(step, "response"))
    ]
    return sum(update_flops(_skeleton(work.model), batch) for batch in collator.batches(rows))


@cache
def _skeleton(model: str) -> PreTrainedModel:
    """Load a model for the shapes of its weights."""
    return AutoModelForCausalLM.from_pretrained(model)
