"""Constraints on an answer, decided by code."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.data.checks import KINDS, read_checks
from heedful.evaluate import checks
from heedful.records import Check

CASES: list[tuple[str, object, str, bool]] = [
    ("valid_json", True, ' {"a": [1, null]}\n', True),
    ("valid_json", True, "3", True),
    ("valid_json", True, '```json\n{"a": 1}\n```', False),
    ("valid_json", True, '{"a": NaN}', False),
    ("valid_json", True, '{"a": 1} Here you are.', False),
    ("valid_json", True, "[" * 100_000, False),
    ("min_words", 3, "one two three", True),
    ("min_words", 3, "one two - !", False),
    ("max_words", 3, "It's well-known, now.", True),
    ("max_words", 2, "It's well-known, now.", False),
    ("max_words", 4, "法国首都", True),
    ("max_words", 3, "法国首都", False),
    ("max_characters", 5, " abcde ", True),
    ("max_characters", 4, "abcde", False),
    ("lines", 2, "- a\n\n- b\n", True),
    ("lines", 2, "- a, - b", False),
    ("contains", ["paris", "France"], "In Paris, FRANCE.", True),
    ("contains", ["paris", "France"], "In Paris.", False),
    ("contains", ["car"], "a carpet", False),
    ("contains", ["(a)"], "part(a)", True),
    ("contains", ["巴黎"], "首都是巴黎。", True),
    ("contains", ["कम"], "यह एक कमी है", False),  # a vowel sign belongs to the word
    ("contains", ["कम"], "यह कम है", True),
    ("contains", ["कमी"], "कमीना", False),
    ("contains", ["nai"], "nai\u0308ve", False),
    ("not_contains", ["car"], "a carpet", True),
    ("not_contains", ["car"], "a Car.", False),
    ("one_of", ["yes", "no"], "Yes.", True),
    ("one_of", ["yes", "no"], "Yes, it is.", False),
    ("one_of", ["3.5", "5"], "35", False),
    ("one_of", ["3.5", "5"], "-5.", False),
    ("starts_with", "dear", "Dear Anna, ...", True),
    ("starts_with", "dear", "My dear", False),
    ("ends_with", "regards", "Best Regards", True),
    ("ends_with", "regards", "Regards, Anna", False),
    ("matches", r"^\d{4}$", "1969", True),
    ("matches", r"^\d{4}$", "in 1969", False),
    ("case", "upper", "NO 3!", True),
    ("case", "upper", "No", False),
    ("case", "lower", "no 3!", True),
    ("case", "lower", "3", False),
]


@pytest.mark.parametrize(("kind", "value", "answer", "kept"), CASES)
def test_each_check(kind: str, value: object, answer: str, kept: bool) -> None:
    (check,) = read_checks({kind: value})
    assert checks.passes(check, answer) is kept


@pytest.mark.parametrize("answer", ["", " \n\u3000"])
def test_an_empty_answer_keeps_no_check(answer: str) -> None:
    """Whatever is declared, a pattern that matches nothing among it."""
    values = [(kind, value) for kind, value, *_ in CASES] + [("matches", ".*")]
    kept = [kind for kind, value in values for check in read_checks({kind: value}) if checks.passes(check, answer)]
    assert kept == []


def test_every_check_that_can_be_declared_has_a_rule_and_a_case() -> None:
    assert KINDS.keys() == checks.RULES.keys() == {kind for kind, *_ in CASES}


@pytest.mark.parametrize("kind", KINDS)
@given(answer=st.text(max_size=20))
def test_every_check_takes_any_answer(kind: str, answer: str) -> None:
    value = next(value for name, value, *_ in CASES if name == kind)
    (check,) = read_checks({kind: value})
    assert checks.passes(check, answer) in (True, False)


def test_a_pattern_that_explodes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SECONDS", 0.2)
    started = time.monotonic()
    assert not checks.passes(Check("matches", r"^(\w+\s?)*$"), "word " * 40 + "!")
    assert time.monotonic() - started < 60


def test_scores_of_a_row() -> None:
    declared = read_checks({"max_words": 2, "contains": "Paris"})
    assert checks.check_scores((), "x") == {}
    assert checks.check_scores(declared, "In Paris.") == {"check_all": 1, "check_max_words": 1, "check_contains": 1}
    told = checks.check_scores(declared, "It is in Paris.")
    assert told == {"check_all": 0, "check_max_words": 0, "check_contains": 1}
