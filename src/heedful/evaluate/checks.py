"""Does an answer keep the constraints that its row declares? Decided by code: the same answer always scores the same.

Outer white space of an answer does not count, and an empty answer keeps no constraint. Upper and lower case are alike,
except to `matches` and `case`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import regex

from heedful.evaluate.metrics import normalised_match, spaced
from heedful.records import CHECK_PREFIX, Check

PASSED = "check_all"
LETTER = r"[\p{L}\p{M}\p{N}]"  # or a digit, or a mark on one: to `re` a vowel sign of Hindi would end a word
SECONDS = 5.0  # for one pattern: some of them would take years


def check_scores(checks: Sequence[Check], answer: str) -> dict[str, float]:
    """Return 1 or 0 for each check, and for all of them together under `check_all`; nothing where none is declared."""
    scores = {CHECK_PREFIX + check.kind: float(passes(check, answer)) for check in checks}
    return scores and {PASSED: float(all(scores.values())), **scores}


def passes(check: Check, answer: str) -> bool:
    text = answer.strip()
    return bool(text) and RULES[check.kind](text, check.value)


def count_words(text: str) -> int:
    """Count what white space parts and holds a letter or digit; in scripts without spaces, each character."""
    return sum(any(map(str.isalnum, word)) for word in spaced(text).split())


def is_json(text: str) -> bool:
    """Say whether a text is JSON and nothing else; NaN and Infinity, which Python would take, are not."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _has(answer: str, text: str) -> bool:
    """Say whether the text stands in the answer, as words of its own where its ends are letters or digits."""
    before = r"(?<!\w)" if regex.match(LETTER, text) else ""
    after = r"(?!\w)" if regex.match(LETTER, text[-1:]) else ""
    if spaced(text) != text:  # a script that does not part words
        before = after = ""
    return regex.search(before + regex.escape(text.casefold()) + after, answer.casefold()) is not None


def _matches(answer: str, pattern: str) -> bool:
    """Search for a pattern; one that is not decided in time counts as not found."""
    try:
        return regex.search(pattern, answer, timeout=SECONDS) is not None
    except TimeoutError:
        return False


RULES: Mapping[str, Callable[[str, Any], bool]] = {
    "valid_json": lambda answer, _: is_json(answer),
    "min_words": lambda answer, count: count_words(answer) >= count,
    "max_words": lambda answer, count: count_words(answer) <= count,
    "max_characters": lambda answer, count: len(answer) <= count,
    "lines": lambda answer, count: sum(bool(line.strip()) for line in answer.splitlines()) == count,
    "contains": lambda answer, texts: all(_has(answer, text) for text in texts),
    "not_contains": lambda answer, texts: not any(_has(answer, text) for text in texts),
    "one_of": lambda answer, texts: any(normalised_match(answer, text) for text in texts),
    "starts_with": lambda answer, text: answer.casefold().startswith(text.casefold()),
    "ends_with": lambda answer, text: answer.casefold().endswith(text.casefold()),
    "matches": _matches,
    "case": lambda answer, case: answer.isupper() if case == "upper" else answer.islower(),
}
"""By kind: (the answer without outer white space, never empty; the value declared) -> kept or not."""
