"""Shares whose rows may lie between 0 and 1, as pairs that a judge calls equal and matches averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from heedful.evaluate import stats

Told = tuple[int, int, int]  # how many rows are 1, a half and 0


def column(told: Sequence[int]) -> list[float]:
    return [value for value, n in zip((1.0, 0.5, 0.0), told, strict=True) for _ in range(n)]


def all_of(rows: int) -> list[Told]:
    return [(won, even, rows - won - even) for won in range(rows + 1) for even in range(rows + 1 - won)]


@pytest.mark.parametrize(("ones", "rows"), [(0, 1), (1, 1), (0, 20), (19, 20), (28, 110), (110, 110), (999, 1000)])
def test_of_whole_rows_the_interval_is_scipys(ones: int, rows: int) -> None:
    found = stats.interval(column((ones, 0, rows - ones)), share=True)
    oracle = scipy_stats.binomtest(ones, rows).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(oracle.low, abs=1e-12), pytest.approx(oracle.high, abs=1e-12))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_tie_among_wins_makes_nothing_more_certain() -> None:
    won, tied = (stats.interval(column(told), share=True) for told in ((20, 0, 0), (19, 1, 0)))
    assert tied.low < won.low and tied.high > 0.98


def test_a_judge_that_only_ties_leaves_doubt() -> None:
    found = stats.interval([0.5] * 110, share=True)
    assert found.low < 0.49 < found.value < 0.51 < found.high


@pytest.mark.parametrize("truth", [(0.98, 0.01, 0.01), (0.9, 0.09, 0.01), (0.05, 0.9, 0.05), (0.4, 0.3, 0.3)])
def test_the_interval_covers_the_truth_as_often_as_it_says(truth: Sequence[float]) -> None:
    """Every outcome of 110 rows that is not too unlikely, as likely as it is."""
    likely = {told: p for told in all_of(110) if (p := scipy_stats.multinomial.pmf(told, 110, truth)) > 1e-4}
    found = {told: stats.interval(column(told), share=True) for told in likely}
    share = truth[0] + truth[1] / 2
    assert sum(p for told, p in likely.items() if found[told].low <= share <= found[told].high) >= 0.94


@pytest.mark.parametrize("told", [(60, 0, 50), (8, 102, 0), (108, 1, 1), (1, 0, 0), (40, 30, 40)])
def test_the_difference_of_wins_is_as_wide_as_the_wins(told: Told) -> None:
    """Who wins w of all beats one who wins 1 - w by 2w - 1."""
    wins = column(told)
    own = stats.interval(wins, share=True)
    pair = stats.paired_comparison([1 - win for win in wins], wins, True, share=True)
    if len(set(wins)) > 1:
        assert (pair.low, pair.high) == (pytest.approx(2 * own.low - 1), pytest.approx(2 * own.high - 1))
    assert (pair.verdict == "better") == (pair.low > 0)


def test_the_difference_of_shares_averaged_over_seeds_covers_the_truth() -> None:
    """Three seeds a row, of rows that are easy or hard: the variants are 0.05 apart."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(100):
        rows = rng.beta(0.5, 0.5, 60) * 0.9
        base, tuned = (rng.binomial(3, rows + more) / 3 for more in (0, 0.05))
        found = stats.paired_comparison(list(base), list(tuned), True, share=True)
        hits += found.low <= 0.05 <= found.high
    assert hits / 100 >= 0.9
