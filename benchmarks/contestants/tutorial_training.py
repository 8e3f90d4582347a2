"""The loop that tutorials teach: padded batches, fp32, logits at every position, every token learned, plain AdamW."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.child import Task, run

IGNORED = -100


def collate(rows: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill rows up to the longest; the targets are the inputs one token on, and padding is not learned."""
    width = max(map(len, rows)) - 1
    inputs, targets = torch.full((len(rows), width), pad_id), torch.full((len(rows), width), IGNORED)
    for row, ids in enumerate(rows):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, : len(ids) - 1] = torch.tensor(ids[1:])
    return inputs, targets


def train(task: Task) -> dict[str, Any]:
    work = task.workload
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1)
    model.train()
    seconds, losses, targets_of = [], [], []
    for step in range(task.units):
        started = time.perf_counter()
        inputs, targets = collate([ids for ids, _ in work.rows(step, "all")], work.pad_id)
        optimizer.zero_grad()
        logits = model(inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
        targets_of.append(int((targets != IGNORED).sum()))
    kept = slice(task.warm_up, None)
    tokens = [sum(len(ids) for ids, _ in work.rows(step, "all")) for step in range(task.units)]
    return {"seconds": seconds[kept], "tokens": tokens[kept], "targets": targets_of[kept], "losses": losses}


if __name__ == "__main__":
    run(train)
