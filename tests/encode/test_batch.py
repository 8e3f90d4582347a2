"""The order of data is a value, and a batch never knows padding by an id."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from heedful.encode.batch import NODES, Collator, dense_targets, padded, plan
from heedful.records import TokenizedExample


def example(ids: list[int], supervised: list[int] | None = None, name: str = "1") -> TokenizedExample:
    flags = np.array(supervised if supervised is not None else [0] + [1] * (len(ids) - 1), bool)
    return TokenizedExample(name, np.array(ids, np.int32), flags)


@pytest.mark.parametrize(("rows", "size", "drop_last"), [(935, 8, True), (10, 4, False), (10, 4, True), (3, 8, False)])
def test_the_order_is_that_of_a_shuffling_data_loader(rows: int, size: int, drop_last: bool) -> None:
    """Invariant 7: after torch.manual_seed, over several epochs."""
    torch.manual_seed(123)
    loader = DataLoader(range(rows), batch_size=size, shuffle=True, drop_last=drop_last)  # type: ignore[arg-type]
    for epoch in range(3):
        assert plan(rows, size, 123, epoch, drop_last) == [batch.tolist() for batch in loader]


@given(
    rows=st.integers(1, 60),
    size=st.integers(1, 9),
    drop_last=st.booleans(),
    start=st.integers(-9, 70),
    stop=st.integers(-9, 70),
)
@settings(deadline=None)
def test_a_plan_is_cut_like_the_list_of_its_groups(
    rows: int, size: int, drop_last: bool, start: int, stop: int
) -> None:
    order = [row for group in plan(rows, size, 5, 1) for row in group]
    groups = [order[at : at + size] for at in range(0, rows, size)]
    groups = groups[:-1] if drop_last and len(groups[-1]) < size else groups
    found = plan(rows, size, 5, 1, drop_last)
    assert list(found) == groups
    assert len(found) == len(groups)
    assert (
        list(found[start:stop])
        == list(found[start:][: max(0, len(range(len(groups))[start:stop]))])
        == groups[start:stop]
    )
    assert found[::-2] == groups[::-2]


def test_a_plan_of_many_rows_holds_one_number_each() -> None:
    tracemalloc.start()
    found = plan(1_000_000, 8, 0, 0)
    assert len(found[60_000:]) == 65_000
    assert tracemalloc.get_traced_memory()[1] < 100_000  # the permutation itself is torch's
    tracemalloc.stop()


def test_the_order_depends_on_nothing_else() -> None:
    first = plan(50, 8, 7, 2)
    torch.manual_seed(99)
    torch.rand(3)
    state = torch.random.get_rng_state()
    assert plan(50, 8, 7, 2) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert plan(50, 8, 7, 1) != first
    assert plan(50, 8, 8, 2) != first


@given(rows=st.integers(1, 60), size=st.integers(1, 9), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 4))
@settings(deadline=None)
def test_an_epoch_sees_every_row_once(rows: int, size: int, seed: int, epoch: int) -> None:
    groups = plan(rows, size, seed, epoch)
    assert sorted(row for group in groups for row in group) == list(range(rows))
    assert all(len(group) == size for group in groups[:-1])


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
    batch = padded(rows, [np.array([0, *[1] * (len(row) - 1)], np.float32) for row in rows], pad_id=9)
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
    assert sum(batch.tokens for batch in batches) == sum(len(e) for e in examples)
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
