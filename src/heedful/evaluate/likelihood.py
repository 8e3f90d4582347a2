"""How likely a model finds given answers: the loss of training, row by row.

Rows are laid out as prefix trees, so that a question and its alternatives, or a preamble and its questions, are
computed once; a model that does not compute a tree as it computes rows gets them padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from heedful.encode.batch import Collator
from heedful.encode.tree import by_beginning
from heedful.records import TokenizedExample
from heedful.train.loss import example_nll, prediction_nll
from heedful.train.probe import tree_is_exact

BATCH_TOKENS = 2048  # in a padded forward
TREE_NODES = 1024  # in a forward by tree


def summed(model: PreTrainedModel, examples: Sequence[TokenizedExample]) -> list[float]:
    """Return each example's NLL in nats, summed over its supervised tokens, in the order given."""
    longest = max(len(example) for example in examples)
    by_tree = tree_is_exact(model, longest)
    layout, limit = ("tree", TREE_NODES) if by_tree else ("padded", BATCH_TOKENS)
    collator = Collator(layout, pad_id=0, prompt_weight=0.0, batch_tokens=limit)
    # The order in which the collator takes them: trees by their tokens, padded rows as given.
    order = by_beginning(examples) if by_tree else sorted(range(len(examples)), key=lambda i: len(examples[i]))
    with torch.inference_mode():
        batches = (batch.to(model.device) for batch in collator.batches([examples[i] for i in order]))
        nll = [each for batch in batches for each in example_nll(batch.supervised, prediction_nll(model, batch))]
    of = dict(zip(order, nll, strict=True))
    return [of[i] for i in range(len(examples))]
