"""What a training update must multiply: its matrix products, and nothing else."""

from __future__ import annotations

import statistics
import time

import torch
from transformers import PreTrainedModel

from heedful.records import Batch

PASSES = 3  # forward, gradient of the inputs, gradient of the weights


def update_flops(model: PreTrainedModel, batch: Batch) -> float:
    """Count the floating point operations of a batch's matrix products, forward and backward.

    Linear layers count at every node, attention at every (node, visible node) pair, the head at predicting nodes only.
    """
    config = model.config.get_text_config()
    head = int(model.get_output_embeddings().weight.numel())
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    matrices: int = sum(p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in embeddings)
    if id(model.get_output_embeddings().weight) not in embeddings:
        matrices -= head  # an untied head was counted among them
    nodes = batch.input_ids.numel()
    width: int = config.hidden_size  # of all heads together; scores and sums over values cost 2 * width each a pair
    pairs = int(batch.attention.sum()) if batch.attention.ndim == 4 else _causal_pairs(batch)
    predicting = len(torch.unique(batch.predictions.source))
    attention: int = config.num_hidden_layers * pairs * 4 * width
    return PASSES * (2.0 * nodes * matrices + attention + 2.0 * predicting * head)


def matmul_rate(precision: str, size: int = 2048, repeats: int = 20) -> float:
    """Measure how many floating point operations a second a product of square matrices reaches."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[repeats // 4 :])


def _causal_pairs(batch: Batch) -> int:
    lengths = batch.attention.sum(-1)
    return int((lengths * (lengths + 1) // 2).sum())
