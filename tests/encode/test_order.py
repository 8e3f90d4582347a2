"""The order of data is a value; rows that begin alike for long meet in an update."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import byte_tokenizer
from torch.utils.data import DataLoader

from heedful.encode.batch import Collator
from heedful.encode.order import Order, group_families
from heedful.encode.prepare import Prepared, prepare
from heedful.records import Conversation, Message, Place, Splits
from heedful.settings import load_config


@pytest.mark.parametrize(("rows", "size", "drop_last"), [(935, 8, True), (10, 4, False), (10, 4, True), (3, 8, False)])
def test_the_order_is_that_of_a_shuffling_data_loader(rows: int, size: int, drop_last: bool) -> None:
    """Invariant 7: after torch.manual_seed, over several epochs."""
    torch.manual_seed(123)
    loader = DataLoader(range(rows), batch_size=size, shuffle=True, drop_last=drop_last)  # type: ignore[arg-type]
    for epoch in range(3):
        assert list(Order(rows, size, 123, drop_last).epoch(epoch)) == [batch.tolist() for batch in loader]


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
    order = [row for group in Order(rows, size, 5).epoch(1) for row in group]
    groups = [order[at : at + size] for at in range(0, rows, size)]
    groups = groups[:-1] if drop_last and len(groups[-1]) < size else groups
    found = Order(rows, size, 5, drop_last).epoch(1)
    assert list(found) == groups
    assert len(found) == len(groups)
    assert (
        list(found[start:stop])
        == list(found[start:][: max(0, len(range(len(groups))[start:stop]))])
        == groups[start:stop]
    )


def test_a_plan_of_many_rows_holds_one_number_each() -> None:
    tracemalloc.start()
    found = Order(1_000_000, 8, 0).epoch(0)
    assert len(found[60_000:]) == 65_000
    assert tracemalloc.get_traced_memory()[1] < 100_000  # the permutation itself is torch's
    tracemalloc.stop()


def test_the_order_depends_on_nothing_else() -> None:
    first = list(Order(50, 8, 7).epoch(2))
    torch.manual_seed(99)
    torch.rand(3)
    state = torch.random.get_rng_state()
    assert list(Order(50, 8, 7).epoch(2)) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(Order(50, 8, 7).epoch(1)) != first
    assert list(Order(50, 8, 8).epoch(2)) != first


@given(rows=st.integers(1, 60), size=st.integers(1, 9), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 4))
@settings(deadline=None)
def test_an_epoch_sees_every_row_once(rows: int, size: int, seed: int, epoch: int) -> None:
    groups = Order(rows, size, seed).epoch(epoch)
    assert sorted(row for group in groups for row in group) == list(range(rows))
    assert all(len(group) == size for group in groups[:-1])


@given(families=st.lists(st.integers(0, 5), min_size=1, max_size=40), size=st.integers(1, 9))
@settings(deadline=None)
def test_rows_of_a_family_follow_each_other(families: list[int], size: int) -> None:
    """Every place once; where updates are so large that no run meets a border, just as a plain loop has it."""
    found = group_families(np.array(families, np.int64), size).tolist()
    assert sorted(found) == list(range(len(families)))
    left, expected = list(range(len(families))), []
    while left:
        some = [place for place in left if families[place] == families[left[0]]][:50]
        expected += some
        left = [place for place in left if place not in some]
    assert group_families(np.array(families, np.int64), 100).tolist() == expected


def test_the_example_of_the_docstring() -> None:
    assert group_families(np.array([0, 1, 0, 2, 0]), 4).tolist() == [0, 2, 1, 3, 4]


def test_a_run_waits_for_the_next_update_while_others_fill_the_gap() -> None:
    """By 4, of a a b c c d, b and d fill the first update; where no single is left, a run is cut."""
    assert group_families(np.array([0, 0, 1, 2, 2, 3]), 4).tolist() == [0, 1, 2, 5, 3, 4]
    assert group_families(np.array([0, 1, 1, 2, 2, 3, 3]), 4).tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("documents", "questions", "singles"), [(24, 8, 0), (24, 8, 192), (24, 8, 1000), (50, 4, 400)])
def test_a_document_is_read_as_seldom_as_runs_of_half_an_update_allow(
    documents: int, questions: int, singles: int
) -> None:
    rows = documents * questions + singles
    families = np.concatenate([np.arange(documents).repeat(questions), documents + np.arange(singles)])
    for epoch in range(3):
        groups = Order(rows, 8, 123, families=families).epoch(epoch)
        read = sum(len({families[row] for row in group} & set(range(documents))) for group in groups)
        assert read <= 1.1 * documents * questions / 4  # shuffled it would be 3 to 4 times that


def test_where_all_rows_have_families_of_their_own_the_order_is_the_usual_one() -> None:
    usual, found = Order(30, 8, 123), Order(30, 8, 123, families=np.arange(30))
    assert [list(found.epoch(epoch)) for epoch in range(3)] == [list(usual.epoch(epoch)) for epoch in range(3)]


@given(rows=st.integers(1, 60), size=st.integers(1, 9), kinds=st.integers(1, 20), epoch=st.integers(0, 2))
@settings(deadline=None)
def test_with_families_an_epoch_sees_every_row_once_too(rows: int, size: int, kinds: int, epoch: int) -> None:
    groups = Order(rows, size, 7, families=np.arange(rows) % kinds).epoch(epoch)
    assert sorted(row for group in groups for row in group) == list(range(rows))
    assert all(len(group) == size for group in groups[:-1])


def test_an_update_holds_the_rows_of_two_documents() -> None:
    """Of one, by chance, where its halves follow each other."""
    documents = np.arange(64) // 8
    for epoch in range(3):
        held = [len({documents[row] for row in group}) for group in Order(64, 8, 123, families=documents).epoch(epoch)]
        assert set(held) <= {1, 2}
        assert held.count(2) >= 5
    first, second = (list(Order(64, 8, 123, families=documents).epoch(epoch)) for epoch in range(2))
    assert first != second


def rows_of(*texts: str) -> tuple[Conversation, ...]:
    place = Place("rows.json", 1)
    return tuple(
        Conversation(str(k), (Message("user", text), Message("assistant", "Yes.")), place)
        for k, text in enumerate(texts)
    )


def ready(*texts: str, **config: object) -> Prepared:
    settings = {"encode.template": "chatml", "train.batch_size": 4, **config}
    return prepare(load_config(None, settings), Splits(rows_of(*texts), (), ()), {}, byte_tokenizer(), 4096)


def test_rows_are_kin_by_the_longest_beginning_that_they_share() -> None:
    """A system prompt that all share does not hide the documents behind it."""
    preamble, first, second = "Answer. " * 20, "The first. " * 25, "The second. " * 25
    texts = [preamble + first + "Who?", preamble + second + "Who?", preamble + first + "When?", "Short."]
    texts += [preamble + second + "Where?", preamble + "Hello.", preamble + "Good bye."]
    found = ready(*texts)
    assert found.order.families is not None
    assert found.order.families.tolist() == [0, 1, 0, 3, 1, 5, 5]
    assert found.receipt["encoding"]["shared_beginnings"] == {"rows": 6, "beginnings": 3}
    assert ready(*texts, **{"train.batch_size": 3}).order.families is None  # half of three is one row


def test_one_document_does_not_take_in_all_who_share_its_preamble() -> None:
    preamble, document = "Answer. " * 20, "The first. " * 25
    texts = [preamble + document + f"{k}?" for k in range(4)] + [preamble + f"{k}?" for k in range(6)]
    found = ready(*texts)
    assert found.order.families is not None
    assert found.order.families.tolist() == [0] * 4 + [4] * 6


def test_what_is_no_long_beginning_or_a_small_part_of_its_row_makes_no_family() -> None:
    short, small = ["Answer. " * 10 + end for end in "ab"], ["Answer. " * 20 + end * 600 for end in "ab"]
    assert ready(*short).order.families is None
    assert ready(*small).order.families is None
    assert ready(*short, *small).receipt["encoding"]["shared_beginnings"] is None
    assert ready(*["Answer. " * 20 + end for end in "ab"], "Short.").order.families is not None
    assert ready(*["Answer. " * 20 + end for end in "ab"]).order.families is None  # which all share


def test_a_row_too_short_for_the_beginning_of_its_kin_joins_them() -> None:
    """256 tokens are shared by the first two, which the third, of their document too, does not reach."""
    document, asking = (
        "The first and only fact of it. " * 6,
        "Now please tell me, if you know it at all, and in one short word, ",
    )
    texts = [document + asking + "who it was.", document + asking + "when it was.", document + "Who?", "Hello."]
    found = ready(*texts)
    assert (found.train.tokens[:3] > 256).tolist() == [True, True, False]
    assert found.order.families is not None
    assert found.order.families.tolist() == [0, 0, 0, 3]


def test_the_grouping_can_be_left_out() -> None:
    texts = ["Answer. " * 20 + end for end in "abcdefghi"] + ["Short."]
    assert ready(*texts).order.families is not None
    found = ready(*texts, **{"train.group_by_beginning": False})
    assert found.order.families is None
    assert list(found.order.epoch(0)) == list(Order(10, 4, 123).epoch(0))


def test_a_tree_then_computes_less() -> None:
    """Eight questions about each of twelve documents: what an epoch lays out, in order and by the usual shuffling."""
    texts = [f"Document {d}. " * 30 + f"Question {q}?" for d in range(12) for q in range(8)]
    found = ready(*texts, **{"train.batch_size": 8})
    collator = Collator("tree", pad_id=0, prompt_weight=0.0, batch_tokens=10**6)

    def nodes(order: Order) -> int:
        groups = [[found.train[row] for row in group] for group in order.epoch(0)]
        return sum(batch.input_ids.numel() for group in groups for batch in collator.batches(group))

    assert nodes(found.order) < 0.6 * nodes(Order(96, 8, 123))


def test_rows_are_grouped_within_a_few_numbers_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedful.encode.order.PIECE", 1_000)
    rows = 50_000
    families = np.arange(rows)
    families[rows // 2] = 0  # two rows share a beginning
    tracemalloc.start()
    group_families(families, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120 * rows, f"{peak / rows:.0f} bytes a row"


def test_validations_of_an_epoch_do_not_arrange_its_rows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    arranged = []

    def counted(families: np.ndarray, size: int) -> np.ndarray:
        arranged.append(len(families))
        return group_families(families, size)

    monkeypatch.setattr("heedful.encode.order.group_families", counted)
    found = Order(12, 4, 3, families=np.arange(12) // 2)
    first = list(found.epoch(0))
    assert (list(found.epoch(0)), len(arranged)) == (first, 1)
    assert list(found.epoch(1)) != first == list(found.epoch(0))
