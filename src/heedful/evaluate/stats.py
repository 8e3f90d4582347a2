"""What may be said of a model after seeing it on n rows: scores with intervals, and pairs of models compared.

Enters: one value a row. Leaves: a Score or a Comparison. The same values give the same bits: every draw is seeded here.

Intervals are percentile bootstraps over rows (Efron and Tibshirani 1993, chapter 13): never degenerate where BCa is, as
for scores that are mostly 0. A share, which says of each row whether something is true, has Wilson's interval instead,
and the difference of two has Bonett and Price's: the bootstrap of 110 answers out of 110 is the single point 1, a
certainty that nobody has, and that of 109 and a half is little less of one. A score is a share by its name
(`metrics.is_share`): a length ratio may be 1 everywhere, too. One row says nothing of how rows differ: of a score that
is no share it gives no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy  # whose parts are imported when they are first used: nobody waits for them to chat or to serve
from numpy.typing import NDArray

from heedful.records import Comparison, Score

Values = NDArray[np.float64]
Ends = tuple[float, float] | tuple[None, None]

CONFIDENCE = 0.95
Z = 1.959963984540054  # of a normal distribution, within which that much of it lies
SIGNIFICANCE = 0.05
POWER = 0.8
RESAMPLES = 9_999  # up to 13 rows that differ have fewer sign flips than this: their test is exact
DRAWS = 5_000_000  # values drawn for one interval: over 500 rows resample less often, but never less than
FEWEST_RESAMPLES = 999
BATCH = 1_000_000  # values in memory at a time
FEWEST_ROWS = 6  # 2 / 2**6 is the first p-value of a sign-flip test under 0.05
MOST_ROWS = 1_000_000
SEED = 123


def interval(values: Sequence[float], share: bool = False) -> Score:
    """Return the mean with its 95 % interval. If all values are equal it has no width, except for a `share` (Wilson);
    one value has none.

    A row of a share may also lie between 0 and 1: half won, or an average over seeds.
    """
    sample = _finite(values)
    if share:
        return Score(float(sample.mean()), *_wilson(sample), sample.size)
    return ratio_interval(values, [1.0] * sample.size)


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Score:
    """Return sum(numerators) / sum(denominators) with its 95 % interval, the two drawn together row by row.

    A mean over tokens, such as NLL per token: each row gives its summed NLL and its count of tokens.
    """
    above, below = _paired(numerators, denominators)
    assert (below > 0).all(), "each row's denominator is a count of at least 1"
    value = float(above.sum() / below.sum())
    low, high = around(value, _bootstrap(above, below))
    return Score(value, low, high, above.size)


def paired_comparison(
    base: Sequence[float],
    tuned: Sequence[float],
    higher_is_better: bool | None,
    denominators: Sequence[float] | None = None,
    share: bool = False,
) -> Comparison:
    """Compare two models on the same rows, by the mean of tuned - base.

    With `denominators`, base and tuned are numerators and the difference is that of the two ratios, as in
    `ratio_interval`. The p-value is the two-sided one of the paired permutation test: under the null hypothesis the two
    scores of a row could as well be swapped.
    """
    before, after = _paired(base, tuned)
    differences, weights = _paired(after - before, np.ones_like(before) if denominators is None else denominators)
    difference = float(differences.sum() / weights.sum())
    low, high = around(difference, _bonett_price(differences) if share else _bootstrap(differences, weights))
    p_value = _permutation_test(differences)
    if p_value < SIGNIFICANCE:
        verdict = direction(difference, higher_is_better)
    else:
        verdict = within_noise(differences.size, int(np.count_nonzero(differences)), rows_needed(differences, weights))
    return Comparison(difference, low, high, p_value, verdict, before.size)


def around(value: float, ends: Ends) -> Ends:
    """Let an interval, where there is one, hold its value: sums differ in their last bits."""
    low, high = ends
    return (None, None) if low is None or high is None else (min(low, value), max(high, value))


def rows_needed(differences: Values, weights: Values) -> float:
    """Return how many rows a paired test would need to see the observed effect, if that is the true one.

    n = ((z(1 - 0.05 / 2) + z(0.8)) * SD / effect)^2: two-sided 5 %, power 80 % (Cohen 1988, chapter 2; normal
    approximation). The SD of a ratio is that of its residuals (Cochran 1977, section 2.11); with equal weights it is
    the usual one. Infinite where no effect was seen, or its spread is not known.
    """
    ratio = differences.sum() / weights.sum()
    if ratio == 0 or differences.size == 1:
        return math.inf
    spread = float(np.std((differences - ratio * weights) / weights.mean(), ddof=1))
    return float((visible_effect() * spread / ratio) ** 2)


def visible_effect() -> float:
    """Return how many standard errors an effect must be away from 0 to be seen, with the power that is asked for."""
    effect: float = scipy.stats.norm.ppf(1 - SIGNIFICANCE / 2) + scipy.stats.norm.ppf(POWER)
    return effect


def direction(difference: float, higher_is_better: bool | None) -> str:
    """Name a difference that is no noise; of a score that has no better end, only where it went."""
    if higher_is_better is None:
        return "higher" if difference > 0 else "lower"
    return "better" if (difference > 0) == higher_is_better else "worse"


def within_noise(rows: int, changed: int, needed: float) -> str:
    if not changed:
        return "within noise; no row differs"
    if rows == 1:
        return "within noise; one row cannot tell"
    if math.isinf(needed):  # as where no word of any answer is right
        return "within noise; the scores are equal"
    return f"within noise; {_about(max(needed, rows + 1, FEWEST_ROWS))} rows would be needed to tell"


def _about(rows: float) -> str:
    """Say a number of rows with two figures, rounded up: 1,234 is "about 1,300"."""
    if rows > MOST_ROWS:
        return "more than a million"
    unit = 10 ** max(math.floor(math.log10(rows)) - 1, 0)
    return f"about {math.ceil(rows / unit) * unit:,}"


def _wilson(sample: Values) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927).

    It is that of a normal mean over z^2 more rows, whose middle and variance are those of a fair coin (Agresti and
    Coull 1998). The variance is the sample's: p(1 - p) of zeros and ones, and less with rows in between. Near the ends,
    where a few such rows would make the interval too narrow, what they take off is put back, up to the coin's variance.
    """
    assert ((sample >= 0) & (sample <= 1)).all(), "each row of a share is from 0 to 1"
    share, rows = float(sample.mean()), sample.size
    middle = (rows * share + Z**2 / 2) / (rows + Z**2)
    hidden = min(float((sample * (1 - sample)).sum()), Z**2 / 4) * (2 * share - 1) ** 2
    reach = Z * math.sqrt(rows * float(sample.var()) + hidden + Z**2 / 4) / (rows + Z**2)
    return max(0.0, min(middle - reach, share)), min(1.0, max(middle + reach, share))


def _bonett_price(differences: Values) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference of two shares of the same rows (Bonett and Price 2012).

    It is that of a normal mean over two more rows, which differ one each way, by as much as any row does: by 1 where
    rows are zeros and ones, as in the paper.
    """
    rows, most = differences.size + 2, float(np.abs(differences).max()) or 1.0
    middle = float(differences.sum()) / rows
    variance = (float((differences**2).sum()) + 2 * most**2) / rows - middle**2
    reach = Z * math.sqrt(variance / rows)
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def _bootstrap(numerators: Values, denominators: Values) -> Ends:
    """Return the 95 % percentile bootstrap interval of sum / sum, rows drawn whole; none of one row."""
    if numerators.size == 1:
        return None, None
    if np.ptp(numerators) == 0 and np.ptp(denominators) == 0:
        value = float(numerators[0] / denominators[0])
        return value, value
    found = scipy.stats.bootstrap(
        (numerators, denominators),
        lambda above, below, axis: above.sum(axis=axis) / below.sum(axis=axis),
        paired=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        **_effort(numerators.size),
    ).confidence_interval
    return float(found.low), float(found.high)


def _permutation_test(differences: Values) -> float:
    """Return the p-value of the paired test: swapping the two scores of a row flips the sign of its difference.

    Rows without a difference take no part: no flip changes them. For 0/1 scores this is McNemar's exact test.
    """
    changed = differences[differences != 0]
    if changed.size < 2:  # the one flip is as far from 0 as what was seen
        return 1.0
    mean: Callable[..., Any] = np.mean
    found = scipy.stats.permutation_test(
        (changed,), mean, permutation_type="samples", vectorized=True, **_effort(changed.size)
    )
    return float(found.pvalue)


def _effort(rows: int) -> dict[str, Any]:
    """Return scipy's settings of resampling: how often, how much at a time, from which seed."""
    return {
        "n_resamples": min(RESAMPLES, max(DRAWS // rows, FEWEST_RESAMPLES)),
        "batch": max(BATCH // rows, 1),
        "rng": np.random.default_rng(SEED),
    }


def _finite(values: Sequence[float] | Values) -> Values:
    sample = np.asarray(values, dtype=np.float64)
    assert sample.size, "a score needs at least one row"
    assert np.isfinite(sample).all(), "rows without a finite value are counted, not averaged"
    return sample


def _paired(first: Sequence[float] | Values, second: Sequence[float] | Values) -> tuple[Values, Values]:
    assert len(first) == len(second), (len(first), len(second))
    return _finite(first), _finite(second)
