"""A batch never knows padding by an id."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.encode.batch import NODES, Collator, padded_batch
from heedful.records import Batch, TokenizedExample

IGNORED = -100  # what torch's cross entropy skips


def example(ids: list[int], supervised: list[int] | None = None, name: str = "1") -> TokenizedExample:
    flags = np.array(supervised if supervised is not None else [0] + [1] * (len(ids) - 1), bool)
    return TokenizedExample(name, np.array(ids, np.int32), flags)


def dense_targets(batch: Batch) -> torch.Tensor:
    """Write a padded batch's predictions as the usual [rows, width] targets."""
    targets = torch.full((batch.input_ids.numel(),), IGNORED)
    targets[batch.predictions.source] = batch.predictions.target
    return targets.reshape(batch.input_ids.shape)


def test_the_tutorials_collate_example() -> None:
    """Its code gives exactly these; each row has its end-of-text token, and the second of two is ignored."""
    collator = Collator("padded", pad_id=50256, prompt_weight=0.0, batch_tokens=4096)
    rows = [example([1, 2, 3, 50256]), example([4, 5, 50256])]
    (batch,) = collator.batches(rows)
    assert batch.input_ids.tolist() == [[1, 2, 3], [4, 5, 50256]]
    assert dense_targets(batch).tolist() == [[2, 3, 50256], [5, 50256, -100]]


def test_the_end_of_text_is_learned_though_it_is_also_the_padding() -> None:
    """Invariant 4: also where it stands inside a row, and where a row is nothing but the padding's id."""
    rows = [example([9, 9, 9, 9]), example([1, 9, 2, 9, 3, 9, 9]), example([9, 1])]
    batch = padded_batch(rows, [np.array([0, *[1] * (len(row) - 1)], np.float32) for row in rows], pad_id=9)
    assert dense_targets(batch).tolist() == [
        [9, 9, 9, -100, -100, -100],
        [9, 2, 9, 3, 9, 9],
        [1, -100, -100, -100, -100, -100],
    ]
    assert batch.attention.sum(1).tolist() == [3, 6, 1]
    assert batch.targets == 10


EXAMPLES = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=8).map(
        lambda pairs: example([i for i, _ in pairs], [0, *[int(on) for _, on in pairs[1:-1]], 1])
    ),
    min_size=1,
    max_size=7,
)


@given(
    examples=EXAMPLES,
    limit=st.integers(16, 40),
    layout=st.sampled_from(["tree", "padded"]),
    share=st.sampled_from([0.0, 0.25]),
)
@settings(deadline=None)
def test_a_group_in_many_forwards_keeps_its_denominator(
    examples: list[TokenizedExample], limit: int, layout: str, share: float
) -> None:
    """Invariant 1: weights, targets and tokens add up, whatever the cut."""
    collator = Collator(layout, 0, share, limit)
    batches = list(collator.batches(examples))
    assert sum(batch.weight for batch in batches) == pytest.approx(collator.weight(examples), rel=1e-6)
    assert sum(batch.targets for batch in batches) == sum(int(e.supervised.sum()) for e in examples)
    for batch in batches:
        room = limit + -limit % NODES if layout == "tree" else limit
        assert batch.input_ids.numel() <= room or len(batch.input_ids) == 1


@pytest.mark.parametrize(("layout", "forwards"), [("tree", 1), ("padded", 2)])
def test_a_forward_is_full_when_its_layout_is(layout: str, forwards: int) -> None:
    """One long row among short ones pads them all; as a tree, a beginning that all share takes its room once."""
    rows = [example([1] * 50 + [row] * (550 if row == 9 else 10)) for row in range(2, 10)]
    assert len(list(Collator(layout, 0, 0.0, 704).batches(rows))) == forwards


def test_the_prompts_share_is_a_weight_and_the_first_token_has_none() -> None:
    weights = Collator("tree", 0, 0.25, 64).weights(example([5, 6, 7, 8], [0, 0, 1, 1]))
    assert weights.tolist() == [0, 0.25, 1, 1]


@pytest.mark.parametrize("layout", ["padded", "tree"])
def test_a_batch_moves_to_a_device_with_all_its_tensors(layout: str) -> None:
    """On "meta", where numbers have no values, as on a GPU; what is there already is not copied."""
    batch = next(Collator(layout, 0, 0.0, 100).batches([example([1, 2, 3, 4]), example([1, 2, 5], name="2")]))
    moved, device = batch.to(torch.device("meta")), torch.device("meta")
    p = moved.predictions
    tensors = (moved.input_ids, moved.position_ids, moved.attention, p.source, p.target, p.weight)
    assert {tensor.device for tensor in tensors} == {device}
    assert (moved.weight, moved.targets, moved.supervised) == (batch.weight, batch.targets, batch.supervised)
    assert batch.to(torch.device("cpu")) is batch
