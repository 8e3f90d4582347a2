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
    lost = stats.interval(column((23, 0, 1)), share=True)
    assert stats.interval(column((23, 1, 0)), share=True).high > lost.high  # a loss says more against it than a tie


def test_a_judge_that_only_ties_leaves_doubt() -> None:
    found = stats.interval([0.5] * 110, share=True)
    assert found.low < 0.49 < found.value < 0.51 < found.high


TRUTHS = [  # how often a row is 1, a half and 0
    (0.98, 0.01, 0.01), (0.9, 0.09, 0.01), (0.05, 0.9, 0.05), (0.4, 0.3, 0.3), (0.98, 0.02, 0), (0.95, 0.05, 0),
]  # fmt: skip


def likely(rows: int, truth: Sequence[float]) -> list[tuple[list[float], float]]:
    """Return every outcome that is not too unlikely, and how likely it is."""
    found = ((column(told), float(scipy_stats.multinomial.pmf(told, rows, truth))) for told in all_of(rows))
    return [(wins, p) for wins, p in found if p > 1e-4]


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_interval_covers_the_truth_as_often_as_it_says(truth: Sequence[float]) -> None:
    share, covered = truth[0] + truth[1] / 2, 0.0
    for wins, p in likely(110, truth):
        found = stats.interval(wins, share=True)
        covered += p * (found.low <= share <= found.high)
    assert covered >= 0.94


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_difference_of_wins_covers_the_truth_as_often_as_it_says(truth: Sequence[float]) -> None:
    """Who wins w of all beats one who wins 1 - w by 2w - 1."""
    ahead, covered = truth[0] - truth[2], 0.0
    for wins, p in likely(40, truth):
        pair = stats.paired_comparison([1 - win for win in wins], wins, True, share=True)
        assert pair.low <= pair.difference <= pair.high
        covered += p * (pair.low <= ahead <= pair.high)
    assert covered >= 0.93


def test_what_differs_a_little_in_a_few_rows_is_better_beside_an_interval_that_says_so() -> None:
    """Ten of 119 rows that one of three seeds missed."""
    found = stats.paired_comparison([1.0] * 109 + [2 / 3] * 10, [1.0] * 119, True, share=True)
    assert found.verdict == "better" and 0 < found.low < 10 / 357 < found.high < 0.05


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
