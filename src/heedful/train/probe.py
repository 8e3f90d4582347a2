"""Does this model compute a prefix tree as it computes separate rows? Asked of the model itself before training.

Sliding windows count positions in the row instead of along the path, some models refuse a 4-D mask, some ignore
position ids: all of them show here, on a path as long as the longest example.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from heedful.encode.batch import Collator
from heedful.records import TokenizedExample
from heedful.train.loss import logits_at

TOLERANCE = 1e-3  # of the largest logit; rounding stays below 1e-5, a wrong mask is above 1e-1


def tree_is_exact(model: PreTrainedModel, length: int) -> bool:
    """Compare two branches on a shared trunk, `length` tokens long in all, with the same two rows apart."""
    rows = _branches(length, int(model.get_input_embeddings().weight.shape[0]))
    model.eval()
    try:
        with torch.inference_mode():
            together = _last_logits(model, "tree", rows)
            apart = torch.cat([_last_logits(model, "padded", [row]) for row in rows])
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False  # the model refuses the mask
    return bool((together - apart).abs().max() <= TOLERANCE * apart.abs().max())


def _branches(length: int, vocabulary: int) -> list[TokenizedExample]:
    """Make two rows that part at their middle; the sorted order is that of the branches."""
    random = np.random.default_rng(0)
    ids = random.integers(0, vocabulary, (2, max(length, 8)), dtype=np.int32)
    middle = ids.shape[1] // 2
    ids[1, :middle] = ids[0, :middle]
    ids[:, middle] = sorted(random.choice(vocabulary, 2, replace=False))
    last = np.arange(ids.shape[1]) == ids.shape[1] - 1
    return [TokenizedExample(str(k), row, last) for k, row in enumerate(ids)]


def _last_logits(model: PreTrainedModel, layout: str, rows: list[TokenizedExample]) -> torch.Tensor:
    """Give the logits [rows, vocabulary] at each row's last node."""
    batch = next(Collator(layout, pad_id=0, prompt_weight=0.0, batch_tokens=2**40).batches(rows))
    return logits_at(model, batch, torch.unique(batch.predictions.source)).float()
