"""A row's field `checks` -> the constraints on its answer, validated where the row is read.

    "checks": {"max_words": 20, "contains": ["Paris"], "valid_json": true}

What each means for an answer is `evaluate.checks`; here stands what may be written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from heedful.data.turns import BadRow, described
from heedful.errors import did_you_mean
from heedful.records import Check

FIELD = "checks"
LONGEST_PATTERN = 1000


def read_checks(value: Any) -> tuple[Check, ...]:
    """Read the field; raise BadRow for an unknown check or a value that it does not take. CSV holds it as JSON text."""
    if isinstance(value, str):
        value = _from_json(value) if value.strip() else None
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise BadRow(f'field "{FIELD}" is {described(value)}, not an object', 'Write it as {"max_words": 20}.')
    return tuple(_check(kind, given) for kind, given in value.items() if given is not None)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f'field "{FIELD}" is not JSON: {error}', 'Write it as {"max_words": 20}.') from None


def _check(kind: str, given: Any) -> Check:
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"Known are {', '.join(KINDS)}."
        raise BadRow(f"there is no check {described(kind)}", hint, "unknown check")
    problem, value = KINDS[kind](given)
    if problem:
        raise BadRow(f'check "{kind}" {problem}', reason=f'check "{kind}" has an unusable value')
    return Check(kind, value)


Read = tuple[str, Any]  # what is wrong, or "" and the value


def _yes(given: Any) -> Read:
    return ("" if given is True else f"is {described(given)}, not true"), given


def _count(given: Any) -> Read:
    whole = isinstance(given, int | float) and not isinstance(given, bool) and given % 1 == 0 and given >= 1
    return ("", int(given)) if whole else (f"is {described(given)}, not a whole number of at least 1", given)


def _text(given: Any) -> Read:
    return ("" if isinstance(given, str) and given.strip() else f"is {described(given)}, not text"), given


def _texts(given: Any) -> Read:
    """Take one text or a list of them."""
    texts = [given] if isinstance(given, str) else given
    good = isinstance(texts, list | tuple) and texts and all(isinstance(t, str) and t.strip() for t in texts)
    return ("", tuple(texts)) if good else (f"is {described(given)}, not a text or a list of texts", given)


def _letter_case(given: Any) -> Read:
    return ("" if given in ("lower", "upper") else f'is {described(given)}, neither "lower" nor "upper"'), given


def _pattern(given: Any) -> Read:
    import regex

    problem, _ = _text(given)
    if problem:
        return problem, given
    if len(given) > LONGEST_PATTERN:
        return f"is a pattern of {len(given)} characters; at most {LONGEST_PATTERN} are taken", given
    try:
        regex.compile(given)
    except (regex.error, RecursionError, OverflowError) as error:
        return f"is not a regular expression: {error}", given
    return "", given


KINDS: dict[str, Callable[[Any], Read]] = {
    "valid_json": _yes,
    "min_words": _count,
    "max_words": _count,
    "max_characters": _count,
    "lines": _count,
    "contains": _texts,
    "not_contains": _texts,
    "one_of": _texts,
    "starts_with": _text,
    "ends_with": _text,
    "matches": _pattern,
    "case": _letter_case,
}
