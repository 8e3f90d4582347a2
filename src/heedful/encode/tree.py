"""Examples as one prefix tree: every shared beginning is computed once.

A causal model's state at a token depends only on the path from the start, so rows that begin alike share their nodes.
The nodes lie in one row in depth-first order, where a node's descendants are exactly those that follow it before its
`end`. So node i sees node j if and only if j <= i < end[j]: itself and its ancestors.

Rows [a b c], [a b d], [a e] (the last token of a row is only ever predicted, so it needs no node):

    node   0  1          depth  0 1       who sees whom  0: x .       predictions  0 -> b (2), e (1)
    token  a  b          end    2 2                      1: x x                    1 -> c (1), d (1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heedful.records import TokenizedExample

ROWS = 512  # rows of the visibility computed at a time, so that the temporaries stay small


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Nodes in depth-first order, and the edges that must be predicted."""

    tokens: NDArray[np.int64]  # [nodes]
    depths: NDArray[np.int64]  # [nodes]
    ends: NDArray[np.int64]  # [nodes]: one past the last descendant
    source: NDArray[np.int64]  # [edges]: the node before
    target: NDArray[np.int64]  # [edges]: the token after
    weight: NDArray[np.float32]  # [edges]: summed over the examples that run through
    example: NDArray[np.int64]  # [supervised tokens]: whose token it is
    edge: NDArray[np.int64]  # [supervised tokens]: where it is predicted

    def visibility(self) -> NDArray[np.bool_]:
        """Return [nodes, nodes]: row i marks the nodes that node i sees."""
        nodes = np.arange(len(self.tokens))
        visible = np.empty((len(nodes), len(nodes)), np.bool_)
        for start in range(0, len(nodes), ROWS):
            some = nodes[start : start + ROWS, None]
            visible[start : start + ROWS] = (nodes <= some) & (some < self.ends)
        return visible

    def filled_up(self, multiple: int, token: int) -> Tree:
        """Add nodes up to a multiple: each sees itself alone, is seen by none and predicts nothing."""
        nodes, extra = len(self.tokens), -len(self.tokens) % multiple
        return replace(
            self,
            tokens=np.append(self.tokens, np.full(extra, token)),
            depths=np.append(self.depths, np.zeros(extra, np.int64)),
            ends=np.append(self.ends, np.arange(nodes, nodes + extra) + 1),
        )


def build_tree(examples: Sequence[TokenizedExample], weights: Sequence[NDArray[np.float32]]) -> Tree:
    """Merge examples into their prefix tree; `weights[k][t]` is what predicting token t of example k counts."""
    tokens, depths, sources, targets, counts, owners, flags = [], [], [], [], [], [], []
    ends = np.zeros(sum(len(example) for example in examples), dtype=np.int64)
    path = np.zeros(0, dtype=np.int64)  # the nodes of the example before
    before = np.zeros(0, dtype=np.int32)
    nodes = 0
    for k in by_beginning(examples):
        ids = examples[k].ids
        shared = common_prefix(before, ids[:-1])
        ends[path[shared:]] = nodes
        fresh = ids[shared:-1]
        path = np.concatenate([path[:shared], np.arange(nodes, nodes + len(fresh))])
        nodes += len(fresh)
        before = ids[:-1]
        tokens.append(fresh)
        depths.append(np.arange(shared, len(ids) - 1))
        learned = np.flatnonzero(weights[k][1:])
        sources.append(path[learned])
        targets.append(ids[1:][learned])
        counts.append(weights[k][1:][learned])
        owners.append(np.full(len(learned), k))
        flags.append(examples[k].supervised[1:][learned])
    ends[path] = nodes
    edges, edge = _merge_edges(np.concatenate(sources), np.concatenate(targets), np.concatenate(counts))
    supervised = np.concatenate(flags)
    runs = np.concatenate(owners)[supervised], edge[supervised]
    return Tree(np.concatenate(tokens).astype(np.int64), np.concatenate(depths), ends[:nodes], *edges, *runs)


def by_beginning(examples: Sequence[TokenizedExample]) -> list[int]:
    """Order examples by their tokens, as words are in a dictionary: those that begin alike stand side by side."""
    return sorted(range(len(examples)), key=lambda k: examples[k].ids.tolist())


def common_prefix(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """Count the tokens that two rows have in common at their start."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


def _merge_edges(
    source: NDArray[np.int64], target: NDArray[np.int32], weight: NDArray[np.float32]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]], NDArray[np.int64]]:
    """Add up the weights of edges that several examples run through; say which edge each became."""
    keys, inverse = np.unique(source << 32 | target, return_inverse=True)
    merged = np.bincount(inverse, weights=weight, minlength=len(keys)).astype(np.float32)
    return (keys >> 32, keys & 0xFFFFFFFF, merged), inverse.astype(np.int64)
