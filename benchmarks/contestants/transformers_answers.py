"""transformers: `generate` in batches of `batch` prompts of like length, or `generate_batch` (continuous batching)."""

from __future__ import annotations

import importlib.util
import time
from itertools import pairwise
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from benchmarks.answering import apart, longest, prompts, stop_ids, together
from benchmarks.child import Missing, Task, run

Answers = dict[int, list[int]]


def answer(task: Task) -> dict[str, Any]:
    transformers.logging.set_verbosity_error()
    dtype = getattr(torch, task.settings.get("dtype", "bfloat16"))
    model = AutoModelForCausalLM.from_pretrained(task.workload.model, dtype=dtype).eval()
    wanted, batch = prompts(task), task.settings.get("batch", 1)
    config = _greedy(model, task, longest(task))
    few = dict(list(wanted.items())[:batch])
    in_batches(model, few, batch, _greedy(model, task, 4), task.workload.pad_id)  # warm-up
    if task.settings.get("way") == "continuous":
        started = time.perf_counter()
        answers = continuous(model, wanted, config, task.settings.get("cache", {}))
        return together(time.perf_counter() - started, answers)
    if batch > 1:
        started = time.perf_counter()
        answers = in_batches(model, wanted, batch, config, task.workload.pad_id)
        return together(time.perf_counter() - started, answers)
    times, answers = [time.perf_counter()], {}
    for number, ids in wanted.items():
        answers |= in_batches(model, {number: ids}, 1, config, task.workload.pad_id)
        times.append(time.perf_counter())
    return apart([after - before for before, after in pairwise(times)], answers)


def _greedy(model: PreTrainedModel, task: Task, most: int) -> GenerationConfig:
    ends = stop_ids(task) or None
    model.generation_config = GenerationConfig(  # what is None in a call's own is filled from here
        do_sample=False, max_new_tokens=most, eos_token_id=ends, pad_token_id=task.workload.pad_id
    )
    return model.generation_config


def in_batches(model: PreTrainedModel, wanted: Answers, batch: int, config: GenerationConfig, pad_id: int) -> Answers:
    """Answer longest prompts first, so that a batch holds little padding."""
    order = sorted(wanted, key=lambda number: -len(wanted[number]))
    answers = {}
    for start in range(0, len(order), batch):
        numbers = order[start : start + batch]
        width = max(len(wanted[number]) for number in numbers)
        ids = torch.tensor([[pad_id] * (width - len(wanted[n])) + wanted[n] for n in numbers])
        real = torch.tensor([[0] * (width - len(wanted[n])) + [1] * len(wanted[n]) for n in numbers])
        output = model.generate(ids, attention_mask=real, generation_config=config)
        for number, row in zip(numbers, output[:, width:].tolist(), strict=True):
            answers[number] = _cut(row, config.eos_token_id or [])
    return answers


def continuous(model: PreTrainedModel, wanted: Answers, config: GenerationConfig, cache: dict[str, Any]) -> Answers:
    """Answer by continuous batching; `cache` says how it is sized."""
    if importlib.util.find_spec("psutil") is None:  # by which the cache is sized
        raise Missing("psutil is not installed: pip install -e '.[bench]'")
    outputs = model.generate_batch(
        list(wanted.values()),
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(**cache),
        progress_bar=False,
    )
    by_prompt = {tuple(output.prompt_ids): output.generated_tokens for output in outputs.values()}
    return {number: list(by_prompt[tuple(ids)]) for number, ids in wanted.items()}


def _cut(row: list[int], stop: list[int]) -> list[int]:
    """Keep a row up to its stop token, without the padding behind it."""
    ends = [place for place, token in enumerate(row) if token in stop]
    return row[: ends[0] + 1] if ends else row


if __name__ == "__main__":
    run(answer)
