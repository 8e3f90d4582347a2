"""Which conversations begin with which others is what comparing them all with each other says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heedful.data.unrolled import Unrolled
from heedful.records import Conversation, Message, Place

turns = st.tuples(st.sampled_from("ab"), st.sampled_from(["", "c"]), st.sampled_from("de"))
talks = st.lists(st.lists(turns, min_size=1, max_size=3), min_size=1, max_size=8)


def conversation(talk: list[tuple[str, str, str]]) -> Conversation:
    pairs = ((Message("user", ask, input=about), Message("assistant", answer)) for ask, about, answer in talk)
    return Conversation("", tuple(turn for pair in pairs for turn in pair), Place("d.json", 1))


@given(talks, st.integers(0, 8))
def test_all_compared_with_each_other_say_the_same(talks: list[list[tuple[str, str, str]]], cut: int) -> None:
    unrolled = Unrolled()
    for talk in talks:
        unrolled.append(conversation(talk))
    rows = np.arange(len(talks))
    begins = np.array([[len(a) < len(b) and b[: len(a)] == a for b in talks] for a in talks])
    held, train = rows[:cut], rows[cut:]
    assert unrolled.begins(held, train).tolist() == begins[:cut, cut:].any(axis=1).tolist()
    alike = np.array([talks.index(talk) for talk in talks])  # equal ones are a cluster before
    reach = np.linalg.matrix_power((begins | begins.T | (alike[:, None] == alike)).astype(float), len(talks)) > 0
    joined = unrolled.joined(alike)
    assert (joined[:, None] == joined).tolist() == reach.tolist()
