"""Intervals, tests and verdicts: equal to scipy's and the textbook's, and silent on values without spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from heedful.evaluate import stats
from heedful.records import Comparison, Score

RNG = np.random.default_rng(7)
SCORES = list(RNG.beta(2, 5, 110))
TOKENS = list(RNG.integers(1, 60, 110).astype(float))
VALUES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 0.1]), min_size=2, max_size=12)
QUICK = settings(max_examples=40)


def exact_p_value(differences: Sequence[float]) -> float:
    """All sign flips, by hand: twice the smaller tail."""
    flips = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in product((1, -1), repeat=6)]
    seen = sum(differences)
    above = sum(flip >= seen - 1e-12 for flip in flips) / len(flips)
    below = sum(flip <= seen + 1e-12 for flip in flips) / len(flips)
    return min(1, 2 * min(above, below))


def test_interval_is_scipys_bootstrap() -> None:
    oracle = scipy_stats.bootstrap(
        (SCORES,),
        np.mean,
        n_resamples=9_999,
        batch=1_000_000 // 110,
        method="percentile",
        rng=np.random.default_rng(123),
    ).confidence_interval
    score = stats.interval(SCORES)
    assert (score.value, score.n) == (pytest.approx(np.mean(SCORES), abs=1e-9), 110)
    assert (score.low, score.high) == (pytest.approx(oracle.low, abs=1e-9), pytest.approx(oracle.high, abs=1e-9))


def test_interval_is_near_the_normal_one() -> None:
    score = stats.interval(SCORES)
    half = 1.96 * np.std(SCORES, ddof=1) / math.sqrt(110)
    assert score.high - score.value == pytest.approx(half, rel=0.1)
    assert score.value - score.low == pytest.approx(half, rel=0.1)


@pytest.mark.parametrize("values", [[0.1] * 3, [2.5] * 110, [-0.3, -0.3], [-0.1321048632913019] * 34])
def test_values_without_spread_have_no_width(values: list[float]) -> None:
    value = pytest.approx(values[0], abs=1e-12)
    assert stats.interval(values) == Score(value, value, value, len(values))  # type: ignore[arg-type]
    score = stats.interval(values)
    assert score.low <= score.value <= score.high  # 34 times -0.132... / 34 is not -0.132..., by the last bit


def test_one_row_gives_no_interval_except_of_a_share() -> None:
    """It says nothing of how rows differ; where each is 0 or 1, how they may is known."""
    assert stats.interval([0.7]) == Score(0.7, None, None, 1)
    assert stats.ratio_interval([5.0], [2.0]) == Score(2.5, None, None, 1)
    assert stats.paired_comparison([0.2], [0.7], True).low is stats.paired_comparison([0.2], [0.7], True).high is None
    share, difference = stats.interval([1.0], share=True), stats.paired_comparison([0.0], [1.0], True, share=True)
    assert share.low == pytest.approx(0.2065, abs=1e-4)
    assert difference.low < 0 < difference.high == 1


@pytest.mark.parametrize("ones", [0, 1, 28, 110])
def test_a_share_has_wilsons_interval(ones: int) -> None:
    share, z, n = ones / 110, 1.959963984540054, 110
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    score = stats.interval([1.0] * ones + [0.0] * (110 - ones), share=True)
    assert (score.value, score.n) == (pytest.approx(share), 110)
    assert (score.low, score.high) == (
        pytest.approx(middle - half, abs=1e-9),
        pytest.approx(middle + half, abs=1e-9),
    )
    assert score.high - score.low > 0.03


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zeros_and_ones_of_a_score_that_is_no_share_have_no_width(value: float) -> None:
    """As ten length ratios of 1, or ten grades of 0 on a scale of 100."""
    assert stats.interval([value] * 10) == Score(value, value, value, 10)


@QUICK
@given(VALUES)
def test_interval_holds_its_mean(values: list[float]) -> None:
    score = stats.interval(values)
    assert score.low <= score.value <= score.high
    assert score.value == pytest.approx(np.mean(values), abs=1e-6)
    assert stats.interval(values) == score


def test_ratio_interval_is_over_tokens_not_over_rows() -> None:
    score = stats.ratio_interval([10.0, 1.0], [10.0, 1.0])
    assert (score.value, score.low, score.high) == (1, 1, 1)
    nll = [tokens * (2.0 if tokens < 30 else 0.5) for tokens in TOKENS]
    score = stats.ratio_interval(nll, TOKENS)
    assert score.value == pytest.approx(sum(nll) / sum(TOKENS))
    assert 0.5 < score.low < score.value < score.high < np.mean(np.divide(nll, TOKENS))


def test_ratio_interval_draws_rows_whole() -> None:
    """Numerators in fixed proportion to their denominators: every resample has the same ratio."""
    score = stats.ratio_interval([0.7 * tokens for tokens in TOKENS], TOKENS)
    assert (score.low, score.high) == (pytest.approx(0.7), pytest.approx(0.7))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        score = stats.interval(list(rng.exponential(1.0, 60)))
        hits += score.low <= 1.0 <= score.high
    assert 0.89 <= hits / 200 <= 0.98


@QUICK
@given(st.lists(st.integers(-5, 5), min_size=6, max_size=6))
def test_p_value_of_few_rows_is_exact(differences: list[int]) -> None:
    found = stats.paired_comparison([0.0] * 6, [float(difference) for difference in differences], higher_is_better=True)
    assert found.p_value == pytest.approx(exact_p_value(differences), abs=1e-9)


def test_p_value_of_matches_is_mcnemars() -> None:
    base, tuned = [0.0] * 110, [0.0] * 98 + [1.0] * 12
    base[:1] = [1.0]
    found = stats.paired_comparison(base, tuned, higher_is_better=True)
    assert found.p_value == pytest.approx(scipy_stats.binomtest(1, 13).pvalue, abs=1e-9)


def pairs(table: Sequence[int]) -> tuple[list[float], list[float]]:
    """Make rows of (base, tuned) from how many have both, tuned alone, base alone, neither."""
    base, tuned = ((1.0, 0.0, 1.0, 0.0), (1.0, 1.0, 0.0, 0.0))
    return tuple([v for v, n in zip(side, table, strict=True) for _ in range(n)] for side in (base, tuned))  # type: ignore[return-value]


def test_difference_of_shares_has_bonett_and_prices_interval() -> None:
    """As the R package statpsych, of one of its authors, documents `ci.prop.ps(.05, 12, 4, 26, 6)`."""
    found = stats.paired_comparison(*pairs((6, 26, 4, 12)), True, share=True)
    assert found.difference == pytest.approx(22 / 48)
    assert (found.low, found.high) == (pytest.approx(0.2548067, abs=1e-7), pytest.approx(0.6251933, abs=1e-7))
    turned = stats.paired_comparison(*pairs((6, 26, 4, 12))[::-1], True, share=True)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


@pytest.mark.parametrize("table", [(0, 119, 0, 0), (0, 0, 119, 0), (119, 0, 0, 0), (0, 0, 0, 119), (0, 1, 0, 0)])
def test_difference_of_shares_is_never_a_certainty(table: Sequence[int]) -> None:
    found = stats.paired_comparison(*pairs(table), True, share=True)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert found.high - found.low > 0.02


def test_difference_of_shares_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    tables = rng.multinomial(60, (0.3, 0.15, 0.05, 0.5), 300)
    found = [stats.paired_comparison(*pairs(table), True, share=True) for table in tables]
    assert 0.92 <= np.mean([one.low <= 0.1 <= one.high for one in found]) <= 0.99


def test_p_value_of_many_rows_is_near_the_t_tests() -> None:
    tuned = [score + shift for score, shift in zip(SCORES, RNG.normal(0.02, 0.1, 110), strict=True)]
    found = stats.paired_comparison(SCORES, tuned, higher_is_better=True)
    assert found.p_value == pytest.approx(scipy_stats.ttest_rel(tuned, SCORES).pvalue, abs=0.02)


def test_p_value_is_uniform_where_there_is_no_effect() -> None:
    rng = np.random.default_rng(1)
    false_alarms = sum(
        stats.paired_comparison([0.0] * 30, list(rng.normal(0, 1, 30)), True).p_value < 0.05 for _ in range(100)
    )
    assert false_alarms <= 12


@pytest.mark.parametrize(
    ("shift", "higher_is_better", "verdict"),
    [(0.1, True, "better"), (0.1, False, "worse"), (-0.1, True, "worse"), (-0.1, False, "better")],
)
def test_verdict_of_a_clear_difference(shift: float, higher_is_better: bool, verdict: str) -> None:
    tuned = [score + shift * (1 + index % 3) for index, score in enumerate(SCORES)]
    found = stats.paired_comparison(SCORES, tuned, higher_is_better)
    assert found.verdict == verdict
    assert found.p_value < 0.001
    assert found.difference == pytest.approx(np.mean(tuned) - np.mean(SCORES))
    assert found.low < found.difference < found.high
    assert (found.low > 0) == (shift > 0)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.0] * 110, "within noise; no row differs"),
        ([0.5], "within noise; one row cannot tell"),
        ([0.5] * 2, "within noise; about 6 rows would be needed to tell"),
        ([0.5] * 5, "within noise; about 6 rows would be needed to tell"),
        ([1.0, -1.0] * 50, "within noise; the scores are equal"),
        ([1.0, -1.0] * 50 + [1e-6], "within noise; more than a million rows would be needed to tell"),
        ([1.0, -1.0] * 50 + [0.005], "within noise; more than a million rows would be needed to tell"),
        ([1.0, -0.8] * 50, "within noise; about 650 rows would be needed to tell"),
    ],
)
def test_verdict_within_noise(differences: list[float], verdict: str) -> None:
    found = stats.paired_comparison([0.0] * len(differences), differences, higher_is_better=True)
    assert found.verdict == verdict
    assert len(differences) == 1 or found.low <= found.difference <= found.high


def test_rows_needed_give_the_power_promised() -> None:
    """Draw as many rows as it asks for, from the effect it was told of: about 80 % of the tests see it."""
    pilot = np.array([1.0, -0.4] * 20)
    rows = math.ceil(stats.rows_needed(pilot, np.ones(40)))
    rng = np.random.default_rng(2)
    samples = rng.normal(pilot.mean(), pilot.std(ddof=1), (2_000, rows))
    seen = scipy_stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert seen.mean() == pytest.approx(0.8, abs=0.03)


def test_rows_needed_for_a_ratio_count_its_residuals() -> None:
    """A difference of 0.1 on every token needs few rows, however much the rows differ in length."""
    tokens = np.array(TOKENS)
    assert stats.rows_needed(0.1 * tokens, tokens) == pytest.approx(0, abs=1e-9)
    assert stats.rows_needed(0.1 * tokens, np.ones(110)) > 1


@QUICK
@given(VALUES, st.booleans())
def test_any_comparison_is_said_in_words(values: list[float], higher_is_better: bool) -> None:
    found = stats.paired_comparison([0.0] * len(values), values, higher_is_better)
    assert found.low <= found.difference <= found.high
    assert 0 < found.p_value <= 1
    assert (found.p_value < 0.05) == (found.verdict in ("better", "worse"))


def test_comparison_of_ratios_is_the_difference_of_the_scores() -> None:
    base = [2.0 * tokens + noise for tokens, noise in zip(TOKENS, RNG.normal(0, 1, 110), strict=True)]
    tuned = [0.7 * tokens + noise for tokens, noise in zip(TOKENS, RNG.normal(0, 1, 110), strict=True)]
    found = stats.paired_comparison(base, tuned, higher_is_better=False, denominators=TOKENS)
    before, after = stats.ratio_interval(base, TOKENS), stats.ratio_interval(tuned, TOKENS)
    assert found.difference == pytest.approx(after.value - before.value)
    assert found.low < -1.3 < found.high
    assert found.verdict == "better"


def test_equal_denominators_change_nothing() -> None:
    tuned = SCORES[::-1]
    plain = stats.paired_comparison(SCORES, tuned, True)
    weighted = stats.paired_comparison(SCORES, tuned, True, denominators=[1.0] * 110)
    assert plain == weighted == stats.paired_comparison(SCORES, tuned, True)
    assert isinstance(plain, Comparison)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: stats.interval([]),
        lambda: stats.interval([1.0, math.nan]),
        lambda: stats.ratio_interval([1.0], [0.0]),
        lambda: stats.ratio_interval([1.0, 2.0], [1.0]),
        lambda: stats.paired_comparison([1.0, 2.0], [1.0], True),
    ],
)
def test_what_is_not_a_row_of_scores_is_refused(wrong: object) -> None:
    with pytest.raises(AssertionError):
        wrong()  # type: ignore[operator]
