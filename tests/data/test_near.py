"""Near duplicates are those of the definition, in small data exactly and in large ones nearly."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.made_rows import WORDS, distinct

from heedful.data import near


def cosines(texts: list[str]) -> np.ndarray:
    """The definition, spelt out: one dense vector of 3-gram counts a text."""
    plain = [f" {' '.join(text.lower().split())} " for text in texts]
    grams = sorted({text[at : at + 3] for text in plain for at in range(len(text) - 2)})
    counts = np.array([[sum(t[i : i + 3] == g for i in range(len(t) - 2)) for g in grams] for t in plain], float)
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    return unit @ unit.T


def components(near_pairs: np.ndarray) -> list[set[int]]:
    reach = np.linalg.matrix_power(near_pairs.astype(float), len(near_pairs)) > 0
    return [set(np.flatnonzero(row)) for row in reach]


@settings(deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab é三\n"), min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=9)
)
def test_exact_search_is_the_definition(texts: list[str]) -> None:
    index, near_pairs = near.index_texts(texts), cosines(texts) >= 0.9 - 1e-9
    vectors = index.vectors[index.distinct]
    np.testing.assert_allclose((vectors @ vectors.T).toarray(), cosines(texts), atol=1e-12)
    labels, near_earlier = near.clusters(index)
    assert near_earlier.tolist() == [bool(near_pairs[row, :row].any()) for row in range(len(texts))]
    assert [set(np.flatnonzero(labels == label)) for label in labels] == components(near_pairs)
    half = len(texts) // 2
    rows, others = np.arange(half), np.arange(half, len(texts))
    assert near.near_any(index, rows, others).tolist() == near_pairs[:half, half:].any(axis=1).tolist()


def test_pairs_just_above_and_below_the_threshold_are_told_apart() -> None:
    texts = [" ".join([*text.split(), *WORDS[:extra]]) for text in distinct(150) for extra in (0, 1, 2, 3)]
    index = near.index_texts(texts)
    cosine = (index.vectors @ index.vectors.T).toarray()
    wanted = [bool((cosine[row, :row] >= 0.9).any()) for row in range(len(texts))]
    assert 20 < sum(wanted) < 500
    assert near.clusters(index)[1].tolist() == wanted


def test_the_same_text_on_both_sides_is_near_however_large_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = distinct(30) * 2
    for limit in (100, 1):
        monkeypatch.setattr(near, "EXACT_ROWS", limit)
        assert near.near_any(near.index_texts(texts), np.arange(30), np.arange(30, 60)).all()


def test_large_data_are_searched_by_buckets_with_nearly_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text + mark for text in distinct(400) for mark in ("", " indeed", "!")]
    exact = near.index_texts(texts)
    monkeypatch.setattr(near, "EXACT_ROWS", 100)
    fast = near.index_texts(texts)
    assert (exact.exact, fast.exact) == (True, False)
    wanted, found = near.clusters(exact)[1], near.clusters(fast)[1]
    assert not (found & ~wanted).any()
    assert found.sum() >= 0.98 * wanted.sum() > 700
    rows, others = np.arange(0, 1200, 3), np.setdiff1d(np.arange(1200), np.arange(0, 1200, 3))
    wanted, found = near.near_any(exact, rows, others), near.near_any(fast, rows, others)
    assert not (found & ~wanted).any()
    assert found.sum() >= 0.98 * wanted.sum() > 300


def test_rows_of_one_template_are_one_cluster() -> None:
    texts = [f"Please repeat the following number in words, slowly and with care: {number}" for number in range(3000)]
    labels, near_earlier = near.clusters(near.index_texts(texts))
    assert len(set(labels.tolist())) == 1
    assert near_earlier.sum() == 2999


@pytest.mark.parametrize("exact", [near.EXACT_ROWS, 0])
def test_long_texts_are_counted_a_few_at_a_time(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 3-grams of these at once would take 32 bytes and more for each of three million characters."""
    monkeypatch.setattr(near, "EXACT_ROWS", exact)
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 20_000)) for _ in range(24)]
    texts.append(texts[0] + " and more")
    assert sum(map(len, texts)) > 3e6
    tracemalloc.start()
    found, _ = near.clusters(near.index_texts(texts))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6
    assert found[24] == found[0]
