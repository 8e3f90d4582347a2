"""Does this model compute a prefix tree as it computes separate rows? Asked of the model itself before training.

Windows that count places in the row instead of along the path, a mask that is refused, position ids that are ignored:
all of them show here, on a path as long as the longest example.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from heedful.encode.batch import Collator
from heedful.errors import RunError
from heedful.model.causal import REFUSALS, tolerance
from heedful.model.vocabulary import vocabulary_size
from heedful.records import TokenizedExample
from heedful.train.attention import TREE, forget_masks
from heedful.train.loss import logits_at
from heedful.train.memory import is_out_of_memory

BEHIND_THE_FORK = 8  # nodes: a wrong window shows where branch and trunk meet, and may be forgotten at the end


def attend_by_tree(model: PreTrainedModel, length: int) -> bool:
    """Let the model attend by `attention.TREE` where that is faster and computes the same; say whether it does."""
    usual = model.config._attn_implementation
    if torch.cuda.is_available():
        return False
    if tree_is_exact(model, length, by=TREE) and model.config._attn_implementation == TREE:
        return True
    if model.config._attn_implementation != usual:
        model.set_attn_implementation(usual)
    return False


def tree_is_exact(model: PreTrainedModel, length: int, by: str | None = None) -> bool:
    """Say whether two branches on a shared trunk, `length` tokens long in all, give the logits of the same rows apart.

    With `by`, the tree is computed by that attention, which the model keeps; the rows never are, as a model may leave
    something out under an attention that it does not know (the tokens that sparse attention chose).
    """
    rows = _branches(length, vocabulary_size(model))
    model.eval()
    try:
        with torch.inference_mode():
            apart = torch.cat([_logits(model, "padded", [row]) for row in rows])
            if by:
                model.set_attn_implementation(by)
            together = _logits(model, "tree", rows)
    except (MemoryError, *REFUSALS) as error:
        if is_out_of_memory(error):
            problem = f"Memory ran out while probing whether the model computes trees of {length} tokens."
            raise RunError(problem, "Lower encode.max_tokens, or choose a smaller model.") from error
        return False  # the model refuses the mask, or has an attention of its own
    finally:
        forget_masks()
    return bool((together - apart).abs().max() <= tolerance(model) * apart.abs().max())


def _branches(length: int, vocabulary: int) -> list[TokenizedExample]:
    """Make two rows that part at their middle; the sorted order is that of the branches."""
    random = np.random.default_rng(0)
    ids = random.integers(0, vocabulary, (2, max(length, 8)), dtype=np.int32)
    middle = ids.shape[1] // 2
    ids[1, :middle] = ids[0, :middle]
    ids[:, middle] = sorted(random.choice(vocabulary, 2, replace=False))
    looked_at = np.zeros(ids.shape[1], np.bool_)
    looked_at[middle + 1 : middle + 1 + BEHIND_THE_FORK] = looked_at[-1] = True
    return [TokenizedExample(str(k), row, looked_at) for k, row in enumerate(ids)]


def _logits(model: PreTrainedModel, layout: str, rows: list[TokenizedExample]) -> torch.Tensor:
    """Return the logits [nodes, vocabulary] behind the fork and at the end, row after row."""
    batch = next(Collator(layout, pad_id=0, prompt_weight=0.0, batch_tokens=2**40).batches(rows))
    batch = batch.to(model.device)  # which loading in 4 bits put on the GPU
    return logits_at(model, batch, torch.unique(batch.predictions.source)).float()
