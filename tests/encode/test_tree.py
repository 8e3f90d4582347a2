"""The prefix tree against brute force over tuples: every beginning is a node, ancestors are its own beginnings."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.encode.tree import Tree, build_tree
from heedful.records import TokenizedExample

Row = tuple[int, ...]
ROWS = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=7).map(tuple), min_size=1, max_size=8)
SHARES = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=7, max_size=7)


def grow(rows: list[Row], shares: list[float]) -> Tree:
    examples = [
        TokenizedExample(str(k), np.array(row, np.int32), np.array([False] + [True] * (len(row) - 1)))
        for k, row in enumerate(rows)
    ]
    return build_tree(examples, [np.array([0, *shares[: len(row) - 1]], np.float32) for row in rows])


def paths(tree: Tree) -> list[Row]:
    """Read each node's way from the start off the visibility alone."""
    return [tuple(tree.tokens[seen].tolist()) for seen in tree.visibility()]


@given(rows=ROWS, shares=SHARES)
@case(rows=[(1, 2, 3), (1, 2, 3)], shares=[1.0] * 7)
@case(rows=[(1, 2), (1, 2, 3), (1, 2, 3, 0)], shares=[1.0] * 7)
@settings(deadline=None, max_examples=300)
def test_the_tree_is_the_set_of_all_beginnings(rows: list[Row], shares: list[float]) -> None:
    tree = grow(rows, shares)
    beginnings = {row[:end] for row in rows for end in range(1, len(row))}
    assert Counter(paths(tree)) == Counter(beginnings)  # each once
    assert [len(path) - 1 for path in paths(tree)] == tree.depths.tolist()
    assert [path[-1] for path in paths(tree)] == tree.tokens.tolist()


@given(rows=ROWS, shares=SHARES)
@settings(deadline=None, max_examples=300)
def test_every_edge_counts_what_runs_through_it(rows: list[Row], shares: list[float]) -> None:
    tree = grow(rows, shares)
    expected: Counter[tuple[Row, int]] = Counter()
    for row in rows:
        for end in range(1, len(row)):
            if shares[end - 1]:
                expected[row[:end], row[end]] += shares[end - 1]  # type: ignore[assignment]  # quarters are exact
    where = paths(tree)
    edges = zip(tree.source.tolist(), tree.target.tolist(), tree.weight.tolist(), strict=True)
    assert {(where[source], target): weight for source, target, weight in edges} == dict(expected)


@given(rows=ROWS, order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_rows_does_not_matter(rows: list[Row], order) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(rows)
    order.shuffle(shuffled)
    a, b = grow(rows, [1.0] * 7), grow(shuffled, [1.0] * 7)
    by_row = {"example", "edge"}
    assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in set(Tree.__slots__) - by_row)


@given(rows=ROWS)
@settings(deadline=None)
def test_each_row_runs_through_its_own_edges(rows: list[Row]) -> None:
    tree = grow(rows, [1.0] * 7)
    where = paths(tree)
    for k, row in enumerate(rows):
        edges = tree.edge[tree.example == k]
        assert [(*where[tree.source[e]], int(tree.target[e])) for e in edges] == [
            row[: end + 1] for end in range(1, len(row))
        ]
