"""What scores are called and how they are written, in the terminal, on the page and on the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedful.errors import as_written
from heedful.evaluate.metrics import is_share
from heedful.records import CHECK_PREFIX

LABELS = {  # score -> (name, hint shown beside it)
    "nll": ("NLL of the reference", "nats per token, lower is better"),
    "bits_per_byte": ("Bits per byte", "of the reference, lower is better"),
    "exact_match": ("Exact match", "share of the rows"),
    "normalised_match": ("Match", "but for case, articles and punctuation"),
    "token_f1": ("Token F1", ""),
    "rouge_l": ("ROUGE-L", ""),
    "chrf": ("chrF", "0 to 100"),
    "bleu": ("BLEU", "0 to 100"),
    "corpus_bleu": ("BLEU over all rows", "0 to 100"),
    "corpus_chrf": ("chrF over all rows", "0 to 100"),
    "judge_score": ("Judge's grade", "0 to 100"),
    "judge_wins": ("Judge prefers it", "share of the rows, both orders asked"),
    "distinct_1": ("Different words", "share of an answer's words"),
    "distinct_2": ("Different pairs of words", "share of an answer's pairs"),
    "length_ratio": ("Length", "of the answer, where the reference is 1"),
    "stopped": ("Stopped by itself", "share of the rows"),
    "length_capped": ("Cut at the limit", "share of the rows, lower is better"),
    "looped": ("Fell into a loop", "share of the rows, lower is better"),
    "check_all": ("All that a row asks for", "share of the rows"),
    "chosen": ("Right answer likeliest", "share of the questions"),
}

HUNDREDS = {"chrf", "bleu", "corpus_bleu", "corpus_chrf", "judge_score"}


def counted(n: int, noun: str) -> str:
    """Write a number with what it counts: 1 row, 2,000 rows."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def label(metric: str) -> str:
    """Name a score; one that has no name here is called by its key, and a check by its constraint."""
    return LABELS.get(metric, (metric.removeprefix(CHECK_PREFIX).replace("_", " ").capitalize(), ""))[0]


def formatted(metric: str, value: float | None, sign: bool = False) -> str:
    """Write a score as it is read: 25.5 %, 63.4, 0.647; with a `sign` a difference, of shares in percentage points.

    The end of an interval that is not there is written as nothing.
    """
    if value is None:
        return ""
    share = is_share(metric)
    digits = 1 if share or metric in HUNDREDS else 3
    number = round(value * (100 if share else 1), digits) + 0.0  # no minus before a zero
    unit = f"\u00a0{'pp' if sign else '%'}" if share else ""
    return f"{number:{'+' if sign else ''}.{digits}f}{unit}".replace("-", "−")


def between(metric: str, score: Mapping[str, Any], word: str, sign: bool = False) -> str:
    """Write an interval, its ends parted by `word`; nothing for a score that has none."""
    return word.join(formatted(metric, end, sign) for end in (score["low"], score["high"]) if end is not None)


def metrics_of(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List the scores that any of the models has: a judge may have graded one alone."""
    return list(dict.fromkeys(metric for scores in models.values() for metric in scores))


def incomparable(one: str, other: str, metric: str) -> str:
    """Say of two models that the score that decides is not there for both on the same tokens."""
    return f"{one} and {other} cannot be compared by {label(metric)}, which decides: their tokens differ."


def answered_with(evaluation: Mapping[str, Any]) -> str:
    """Return ", answered with LEAF=VALUE" for settings that differ from the run's, else ""."""
    changed = ", ".join(
        f"{leaf}={as_written(value)}" for leaf, value in evaluation.get("of", {}).get("settings", {}).items()
    )
    return f", answered with {changed}" if changed else ""
