"""Decoding as tutorials teach it: greedy, fp32, no cache (each token reads everything again), one prompt at a time."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.answering import longest, prompts, stop_ids, together
from benchmarks.child import Task, run


def answer(task: Task) -> dict[str, Any]:
    model = AutoModelForCausalLM.from_pretrained(task.workload.model, dtype=torch.float32).eval()
    wanted, stop = prompts(task), stop_ids(task)
    decode(model, next(iter(wanted.values())), 2, stop)  # warm-up
    started = time.perf_counter()
    answers = {number: decode(model, ids, longest(task), stop) for number, ids in wanted.items()}
    return together(time.perf_counter() - started, answers)


def decode(model: Any, prompt: list[int], most: int, stop: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    for _ in range(most):
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits
        token = logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, token], 1)
        if token.item() in stop:
            break
    return ids[0, len(prompt) :].tolist()


if __name__ == "__main__":
    run(answer)
