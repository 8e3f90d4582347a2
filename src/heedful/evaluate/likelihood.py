"""How likely a model finds given answers: the loss of training, row by row.

Rows are laid out as prefix trees, so that a question and its alternatives, or a preamble and its questions, are
computed once; a model that does not compute a tree as it computes rows gets them padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from heedful.encode.batch import Collator, parts, tree
from heedful.records import Batch, TokenizedExample
from heedful.train.loss import prediction_nll
from heedful.train.probe import tree_is_exact

BATCH_TOKENS = 2048  # in a padded forward
TREE_NODES = 1024  # in a forward by tree
TOLERANCE = {torch.float32: 1e-3}  # of the largest logit
NARROW_TOLERANCE = 5e-2


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Summed negative log-likelihood, in nats, of each row's supervised tokens, their number, and the text's bytes."""

    nll: list[float]
    targets: list[int]
    bytes: list[int]


def summed(model: PreTrainedModel, examples: Sequence[TokenizedExample]) -> list[float]:
    """Measure every example, in order: nats over its supervised tokens."""
    longest = max(len(example) for example in examples)
    by_tree = tree_is_exact(model, longest, TOLERANCE.get(model.dtype, NARROW_TOLERANCE))
    order = sorted(range(len(examples)), key=lambda i: examples[i].ids.tolist() if by_tree else len(examples[i]))
    with torch.inference_mode():
        measure = _by_tree if by_tree else _padded
        nll = measure(model, [examples[i] for i in order])
        of = dict(zip(order, nll, strict=True))
    return [of[i] for i in range(len(examples))]


def _padded(model: PreTrainedModel, examples: Sequence[TokenizedExample]) -> Iterator[float]:
    """Measure examples, each in a row of its own."""
    collator = Collator("padded", pad_id=0, prompt_weight=0.0, batch_tokens=BATCH_TOKENS)
    for batch in collator.batches(examples):
        of_row = batch.predictions.source // batch.input_ids.shape[1]
        sums = torch.zeros(len(batch.input_ids), dtype=torch.float64)
        sums.index_add_(0, of_row, prediction_nll(model, batch).double())
        yield from sums.tolist()


def _by_tree(model: PreTrainedModel, examples: Sequence[TokenizedExample]) -> Iterator[float]:
    """Measure examples, some at a time as one tree."""
    for part, _ in parts(examples, TREE_NODES, "tree"):
        batch = tree(part, [example.supervised.astype(np.float32) for example in part], 0)
        nll = prediction_nll(model, batch).tolist()
        yield from (sum(nll[edge] for edge in edges) for edges in _edges(batch, part))


def _edges(batch: Batch, examples: Sequence[TokenizedExample]) -> Iterator[list[int]]:
    """Give each example's predictions in a tree: walk down its tokens. A node's parent is the last one less deep."""
    children: dict[tuple[int, int], int] = {}
    path: list[int] = []
    for node, (token, depth) in enumerate(
        zip(batch.input_ids[0].tolist(), batch.position_ids[0].tolist(), strict=True)
    ):
        path[depth:] = [node]
        children.setdefault((path[depth - 1] if depth else -1, token), node)  # what fills a tree up comes last
    source, target = batch.predictions.source.tolist(), batch.predictions.target.tolist()
    edges = {edge: number for number, edge in enumerate(zip(source, target, strict=True))}
    for example in examples:
        ids = example.ids.tolist()
        node = children[-1, ids[0]]
        found = []
        for token, supervised in zip(ids[1:], example.supervised[1:].tolist(), strict=True):
            found += [edges[node, token]] if supervised else []
            node = children.get((node, token), -1)
        yield found
