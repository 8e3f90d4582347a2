"""Examples in, batches out: how a forward lays out the rows of an update. Padding is known by lengths, never by a
token id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from heedful.encode.tree import build_tree, by_beginning, common_prefix
from heedful.records import Batch, Predictions, SupervisedTokens, TokenizedExample

NODES = 32  # a tree's size is a multiple of it: matrices fit the processor's tiles, and blocks of memory are used again
MOST_TOKENS = 4096  # in one forward, where memory has room: more are no faster


@dataclass(frozen=True, slots=True)
class Collator:
    """Lays examples out as batches by `layout`: at most `batch_tokens` nodes of a "tree", or rows x width "padded"."""

    layout: str
    pad_id: int
    prompt_weight: float
    batch_tokens: int

    def weights(self, example: TokenizedExample) -> NDArray[np.float32]:
        """Return what each token counts as a target: 1 where supervised, the prompt's share elsewhere, 0 first and in
        answers of weight 0."""
        weights = np.where(example.supervised, np.float32(1), np.float32(self.prompt_weight))
        weights[0] = 0
        if example.excluded is not None:
            weights[example.excluded] = 0
        return weights

    def weight(self, examples: Sequence[TokenizedExample]) -> float:
        """Return the denominator of an update on these examples."""
        return float(sum(self.weights(example).sum(dtype=np.float64) for example in examples))

    def parts(self, examples: Sequence[TokenizedExample]) -> Iterator[tuple[list[TokenizedExample], int]]:
        """Cut a group into as few forwards as fit, each with its places."""
        if self.layout == "tree":  # rows that begin alike stay neighbours when a group is cut
            examples = [examples[k] for k in by_beginning(examples)]
        return split_into_forwards(examples, self.batch_tokens, self.layout)

    def batches(self, examples: Sequence[TokenizedExample]) -> Iterator[Batch]:
        """Lay a group out in as few forwards as fit."""
        for part, _ in self.parts(examples):
            yield LAYOUTS[self.layout](part, [self.weights(example) for example in part], self.pad_id)


def padded_batch(examples: Sequence[TokenizedExample], weights: Sequence[NDArray[np.float32]], pad_id: int) -> Batch:
    """Give each example a row of its own, filled up on the right.

    The last token of an example is only ever predicted: [1 2 3 E], [4 5 E] become the rows 1 2 3 and 4 5 pad.
    """
    width = max(len(example) for example in examples) - 1
    input_ids = torch.full((len(examples), width), pad_id)
    attention = torch.zeros((len(examples), width), dtype=torch.int64)
    sources, targets, counts, flags = [], [], [], []
    for row, (example, weight) in enumerate(zip(examples, weights, strict=True)):
        length = len(example) - 1
        input_ids[row, :length] = torch.from_numpy(example.ids[:-1].astype(np.int64))
        attention[row, :length] = 1
        learned = np.flatnonzero(weight[1:])
        sources.append(row * width + learned)
        targets.append(example.ids[1:][learned].astype(np.int64))
        counts.append(weight[1:][learned])
        flags.append(example.supervised[1:][learned])
    position_ids = torch.arange(width).expand(len(examples), width)
    edges = (np.concatenate(column) for column in (sources, targets, counts))
    predictions = Predictions(*map(torch.from_numpy, edges))
    edge = np.flatnonzero(np.concatenate(flags))
    owners = np.repeat(np.arange(len(examples)), [len(column) for column in counts])
    supervised = SupervisedTokens(tuple(example.id for example in examples), owners[edge], edge)
    return _batch(examples, input_ids, position_ids, attention, predictions, supervised)


def tree_batch(examples: Sequence[TokenizedExample], weights: Sequence[NDArray[np.float32]], pad_id: int) -> Batch:
    """Give the examples one row, in which every shared beginning stands once."""
    nodes = build_tree(examples, weights).filled_up(NODES, pad_id)
    predictions = Predictions(*map(torch.from_numpy, (nodes.source, nodes.target, nodes.weight)))
    input_ids, position_ids = torch.from_numpy(nodes.tokens)[None], torch.from_numpy(nodes.depths)[None]
    visibility = torch.from_numpy(nodes.visibility())[None, None]
    supervised = SupervisedTokens(tuple(example.id for example in examples), nodes.example, nodes.edge)
    return _batch(examples, input_ids, position_ids, visibility, predictions, supervised)


Layout = Callable[[Sequence[TokenizedExample], Sequence[NDArray[np.float32]], int], Batch]
LAYOUTS: dict[str, Layout] = {"tree": tree_batch, "padded": padded_batch}


def _batch(
    examples: Sequence[TokenizedExample],
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    attention: torch.Tensor,
    predictions: Predictions,
    supervised: SupervisedTokens,
) -> Batch:
    weight = float(predictions.weight.sum(dtype=torch.float64))
    targets = sum(int(np.count_nonzero(example.supervised)) for example in examples)
    return Batch(input_ids, position_ids, attention, predictions, weight, targets, supervised)


def split_into_forwards(
    examples: Sequence[TokenizedExample], limit: int, layout: str
) -> Iterator[tuple[list[TokenizedExample], int]]:
    """Cut examples, in order, so that each part's places in its layout stay within the limit, or it is one example.

    Gives each part with its places: rows x width, or the nodes of a tree and a few more.
    """
    part: list[TokenizedExample] = []
    width = places = 0
    for example in examples:
        width = max(width, len(example))
        if layout == "tree":  # what begins alike stands side by side
            more = places + len(example) - (common_prefix(part[-1].ids, example.ids) if part else 0)
        else:
            more = width * (len(part) + 1)
        if part and more > limit:
            yield part, places
            part, width, more = [], len(example), len(example)
        part.append(example)
        places = more
    yield part, places
