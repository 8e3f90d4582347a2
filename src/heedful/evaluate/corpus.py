"""Scores of all rows together, as corpus BLEU: no mean of rows, but a function of counts that are summed over them.

Enters: counts, [rows, counts], and the function. Leaves: a Score or a Comparison, as `stats` has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy

from heedful.evaluate.stats import (
    BATCH,
    CONFIDENCE,
    SEED,
    SIGNIFICANCE,
    Ends,
    Values,
    around,
    direction,
    visible_effect,
    within_noise,
)
from heedful.records import Comparison, Score

RESAMPLES = 1_999  # BLEU of each is Python; up to 10 rows that differ have fewer ways to swap their answers


def corpus_interval(counts: Sequence[Sequence[float]], score: Callable[[Values], float]) -> Score:
    """Return `score` of the counts summed over rows, [rows, counts], with its 95 % interval: rows drawn whole."""
    table = np.asarray(counts, dtype=np.float64)
    value = score(table.sum(axis=0))
    ends, _ = _bootstrap(table, score)
    low, high = around(value, ends)
    return Score(value, low, high, len(table))


def corpus_comparison(
    base: Sequence[Sequence[float]], tuned: Sequence[Sequence[float]], score: Callable[[Values], float]
) -> Comparison:
    """Compare two models by a score of summed counts, higher being better; the p-value is that of `paired_comparison`.

    The rows that would be needed follow from the bootstrap's standard error, which shrinks with their square root.
    """
    before, after = np.asarray(base, dtype=np.float64), np.asarray(tuned, dtype=np.float64)
    size, width = before.shape

    def difference(sums: Values) -> float:
        return score(sums[width:]) - score(sums[:width])

    both = np.hstack([before, after])
    seen = difference(both.sum(axis=0))
    ends, error = _bootstrap(both, difference)
    low, high = around(seen, ends)
    changed = (before != after).any(axis=1)
    swapped = (after - before)[changed]  # what a row whose answers are swapped adds to base, and takes off tuned
    p_value = _permutation_test(both.sum(axis=0), np.hstack([swapped, -swapped]), difference)
    if p_value < SIGNIFICANCE:
        verdict = direction(seen, True)
    else:
        needed = size * float((visible_effect() * error / seen) ** 2) if seen else math.inf
        verdict = within_noise(size, int(changed.sum()), needed)
    return Comparison(seen, low, high, p_value, verdict, size)


def _bootstrap(table: Values, score: Callable[[Values], float]) -> tuple[Ends, float]:
    """Return the 95 % percentile bootstrap interval of a score of summed rows, and its standard error; none of one row.

    How often each row is drawn, times the table, gives the sums of a draw: no drawn row is copied.
    """
    rows = len(table)
    if rows == 1:
        return (None, None), 0.0

    def scores(drawn: Any, axis: int) -> Values:
        counts = np.apply_along_axis(np.bincount, axis, drawn, minlength=rows)
        return np.apply_along_axis(score, axis, counts @ table)

    found = scipy.stats.bootstrap(
        (np.arange(rows),),
        scores,
        confidence_level=CONFIDENCE,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=max(BATCH // rows, 1),
        rng=np.random.default_rng(SEED),
    )
    ends = float(found.confidence_interval.low), float(found.confidence_interval.high)
    return ends, float(found.standard_error)


def _permutation_test(sums: Values, swaps: Values, score: Callable[[Values], float]) -> float:
    """Return the two-sided p-value of a score of `sums`, to which each row adds its line of `swaps` or does not.

    As scipy.stats.permutation_test has it: all ways to swap, where they are fewer than the resamples, or else drawn
    ones, to which what was seen is added; and values are equal up to a hundred units in their last place.
    """
    rows = len(swaps)
    if rows < 2:  # the one swap is as far from 0 as what was seen
        return 1.0
    exact = 2**rows <= RESAMPLES
    null: list[float] = []
    rng, resamples = np.random.default_rng(SEED), 2**rows if exact else RESAMPLES
    while len(null) < resamples:
        size = min(max(BATCH // rows, 1), resamples - len(null))
        ways = np.arange(len(null), len(null) + size)[:, None] >> np.arange(rows) & 1 if exact else None
        drawn = rng.integers(0, 2, (size, rows), np.int8) if ways is None else ways
        null += map(score, sums + drawn @ swaps)
    seen = score(sums)
    equal = 100 * np.finfo(np.float64).eps * abs(seen)
    tails = (np.array(null) <= seen + equal).sum(), (np.array(null) >= seen - equal).sum()
    return min(1.0, 2 * float((min(tails) + (not exact)) / (resamples + (not exact))))
