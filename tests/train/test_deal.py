"""Every row of an update falls to one rank, and no rank has much more to compute than the others."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.encode.batch import Collator
from heedful.records import TokenizedExample
from heedful.train.deal import assign_rows, shared_out


def example(*ids: int) -> TokenizedExample:
    return TokenizedExample("1", np.array(ids, np.int32), np.arange(len(ids)) > 0)


def about(document: int, length: int, questions: int) -> list[TokenizedExample]:
    """Rows that share a document, and end in a question of their own."""
    return [example(*[document] * length, 100 + question, 1) for question in range(questions)]


def nodes(examples: list[TokenizedExample], hands: list[list[int]], collator: Collator) -> list[int]:
    return [sum(places for _, places in collator.parts([examples[i] for i in hand])) for hand in hands if hand]


def test_work_is_dealt_evenly_and_wholly() -> None:
    assert shared_out([5, 3, 3, 1], 2) == [[0, 3], [1, 2]]
    assert shared_out([7, 7], 1) == [[0, 1]]
    assert shared_out([4], 3) == [[0], [], []]
    lengths = [90, 5, 40, 40, 7, 30, 11, 60]
    hands = shared_out(lengths, 3)
    assert sorted(item for hand in hands for item in hand) == list(range(8))
    loads = [sum(lengths[item] for item in hand) for hand in hands]
    assert max(loads) - min(loads) < 10


@pytest.mark.parametrize("count", [2, 4])
def test_a_document_goes_to_as_few_ranks_as_there_is_work_for(count: int) -> None:
    """Two documents with four questions each: by length alone every rank would compute both."""
    collator = Collator("tree", 0, 0.0, 10**6)
    examples = [row for pair in zip(about(7, 400, 4), about(8, 420, 4), strict=True) for row in pair]
    hands = assign_rows(examples, count, collator)
    assert sorted(i for hand in hands for i in hand) == list(range(8))
    assert max(nodes(examples, hands, collator)) < 450
    plain = shared_out([len(row) for row in examples], count)
    assert max(nodes(examples, plain, collator)) > 800
    assert assign_rows(examples, count, Collator("padded", 0, 0.0, 10**6)) == plain


def test_rows_that_share_little_are_dealt_by_length() -> None:
    collator = Collator("tree", 0, 0.0, 10**6)
    examples = [example(*range(k, k + length)) for k, length in enumerate([90, 5, 40, 40, 7, 30, 11, 60])]
    assert assign_rows(examples, 3, collator) == shared_out([len(row) for row in examples], 3)
    assert assign_rows(examples[:1], 3, collator) == [[0], [], []]
