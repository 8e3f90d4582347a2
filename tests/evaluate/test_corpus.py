"""Intervals and tests of scores of summed counts: equal to scipy's, in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from heedful.evaluate import corpus
from heedful.evaluate.metrics import corpus_counts, corpus_score


def counts(rows: int, shift: float = 0.0) -> list[list[float]]:
    """Make rows of two counts: what was right, out of how many."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(5, 40, rows)
    rights = np.random.default_rng(12 + int(shift > 0)).binomial(sizes, 0.4 + shift)
    return np.stack([rights, sizes], axis=1).astype(float).tolist()  # type: ignore[no-any-return]


def squared(sums: Sequence[float]) -> float:
    """A score of summed counts that is no mean of rows."""
    return float(sums[0] / sums[1]) ** 2


@pytest.mark.parametrize("batch", [1_000_000, 100])
def test_corpus_interval_is_scipys_bootstrap(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BATCH", batch)
    table = np.array(counts(80))
    found = scipy_stats.bootstrap(
        (np.arange(80),),
        lambda rows: squared(table[rows].sum(axis=0)),
        vectorized=False,
        n_resamples=corpus.RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(123),
    ).confidence_interval
    score = corpus.corpus_interval(counts(80), squared)
    assert (score.low, score.high) == (pytest.approx(found.low, abs=1e-12), pytest.approx(found.high, abs=1e-12))
    assert score.low < score.value < score.high and score.value == pytest.approx(squared(table.sum(axis=0)))


@pytest.mark.parametrize(("rows", "noise"), [(2, 0), (10, 0), (11, 0.03), (40, 0.04)])
@pytest.mark.parametrize("batch", [1_000_000, 100])
def test_corpus_p_value_is_scipys(rows: int, noise: float, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly so where all ways to swap answers are tried, and within Monte Carlo's noise where they are drawn."""
    monkeypatch.setattr(corpus, "BATCH", batch)
    base, tuned = counts(rows), counts(rows, 0.01)
    both = np.array([*base, *tuned])
    numbers = np.arange(rows)
    oracle = scipy_stats.permutation_test(
        (numbers, numbers + rows),
        lambda before, after: squared(both[after].sum(axis=0)) - squared(both[before].sum(axis=0)),
        permutation_type="samples",
        vectorized=False,
        n_resamples=4_999,
        rng=np.random.default_rng(1),
    )
    found = corpus.corpus_comparison(base, tuned, squared)
    assert found.difference == pytest.approx(oracle.statistic)
    assert found.p_value == pytest.approx(oracle.pvalue, abs=noise + 1e-12)


def test_corpus_scores_of_many_rows_take_little_memory() -> None:
    """All drawn rows at once would be 320 MB."""
    base, tuned = counts(20_000), counts(20_000, 0.05)
    tracemalloc.start()
    try:
        corpus.corpus_interval(base, squared)
        assert tracemalloc.get_traced_memory()[1] < 60e6
        found = corpus.corpus_comparison(base, tuned, squared)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
    assert found.verdict == "better"


def test_a_corpus_score_that_is_0_of_other_answers_too_is_told_as_equal() -> None:
    """BLEU is, where no word is right, whatever else the answers say."""
    base, tuned = ([corpus_counts(answer, "It is red.")["corpus_bleu"]] * 8 for answer in ("Blue", "Perhaps green"))
    found = corpus.corpus_comparison(base, tuned, lambda sums: corpus_score("corpus_bleu", sums))
    assert (found.difference, found.verdict) == (0, "within noise; the scores are equal")
    assert corpus.corpus_comparison(base, base, squared).verdict == "within noise; no row differs"
