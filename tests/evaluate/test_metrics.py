"""Scores of one answer: equal to their published implementations, and right where those are silent."""

from __future__ import annotations

import re
import string

import pytest
import sacrebleu
from hypothesis import assume, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from heedful.evaluate import metrics
from heedful.records import Completion, FinishReason

ROUGE = RougeScorer(["rougeL"], use_stemmer=False)
ENGLISH = st.lists(
    st.sampled_from(
        ["The", "the", "a", "cat", "cats", "sat", "3.5", "well-known", "don't", "naïve", "x²", "\n", "—", "!"]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=0x2AF), max_size=6),
    max_size=14,
).map(" ".join)
ASCII = st.text(string.ascii_letters[:6] + "THEthe 1.,!$'\n", max_size=30)
CHINESE = st.text("的一是不了人我在有他,。!ab 3", max_size=15)
ANSWERS = [
    ("The capital of France is Paris.", "Paris is the capital of France."),
    ("a", "the cat sat on the mat"),
    ("the cat", "the cat sat"),  # has no 4-gram: effective order
    ("", "words"),
    ("words", ""),
    ("", ""),
    ("法国的首都是巴黎。", "巴黎是法国的首都。"),
    ("これは本です。", "これはペンです。"),
]


def rouge_score(answer: str, reference: str) -> float:
    return float(ROUGE.score(reference, answer)["rougeL"].fmeasure)


def squad_f1(answer: str, reference: str) -> float:
    """Squad's evaluate-v2.0.py, on words already normalised by its own rules."""
    found, wanted = squad_words(answer), squad_words(reference)
    if not found or not wanted:
        return float(found == wanted)
    common = sum(min(found.count(word), wanted.count(word)) for word in set(found))
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def squad_words(text: str) -> list[str]:
    bare = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def table_of_longest_common(first: str, second: str) -> int:
    """The textbook's table, one row at a time."""
    row = [0] * (len(second) + 1)
    for left in first:
        above = row[:]
        for place, right in enumerate(second, 1):
            row[place] = above[place - 1] + 1 if left == right else max(above[place], row[place - 1])
    return row[-1]


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "normalised"),
    [
        ("Paris", "Paris", 1, 1),
        (" Paris\n", "Paris", 1, 1),
        ("The Paris.", "paris", 0, 1),
        ("an  apple\tpie", "Apple pie!", 0, 1),
        ("Paris", "Rome", 0, 0),
        ("巴黎。", "巴黎", 0, 1),
        ("“你好”", "你 好", 0, 1),
        ("cafe\u0301", "caf\u00e9", 0, 1),
        ("A.", "a", 0, 1),
        ("A", "The", 0, 0),
        ("?", "!", 0, 0),
        ("", "", 1, 1),
        ("", "a", 0, 0),
    ],
)
def test_matches(answer: str, reference: str, exact: float, normalised: float) -> None:
    assert metrics.exact_match(answer, reference) == exact
    assert metrics.normalised_match(answer, reference) == normalised


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It is -5.", ["it", "is", "-5"]),
        ("\u22125", ["-5"]),  # the minus sign of typography
        ("-$3.50", ["-3.50"]),
        ("(-.5)", ["-.5"]),
        ("3.5, 1,000 and 2.", ["3.5", "1000", "and", "2"]),
        ("1,5 of 1/2 at 10:30", ["1,5", "of", "1/2", "at", "10:30"]),
        ("1,234,567 1,00,000", ["1234567", "100000"]),
        ("1914\u20131918 is \u20135, 3\uff0e5", ["1914-1918", "is", "-5", "3.5"]),
        ("答案是-5。", ["答", "案", "是", "-5"]),
        ("1914-1918, COVID-19", ["1914-1918", "covid19"]),
        ("- 5\nv.5 ...5", ["5", "v5", "5"]),
    ],
)
def test_words_keep_what_makes_another_number(text: str, words: list[str]) -> None:
    assert metrics.words(text) == words


@given(ASCII, ASCII)
def test_token_f1_is_squads(answer: str, reference: str) -> None:
    assume(all(squad_words(text) or not text.strip() for text in (answer, reference)))
    assume(not re.search("[.,:/-]1", answer + reference))  # which SQuAD's folding makes another number
    assert metrics.token_f1(answer, reference) == pytest.approx(squad_f1(answer, reference), abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("巴黎", "巴黎", 1),
        ("是巴黎。", "巴黎", 0.8),  # 2 of 3 found, 2 of 2 wanted
        ("北京", "巴黎", 0),
        ("iPhone手机", "iphone 手机", 1),
        ("ありがとう", "ありがと", 8 / 9),
        ("กา", "กี", 0.5),
        ("हिन्दी", "हिन्दी", 1),
        ("कि", "का", 0),
    ],
)
def test_token_f1_of_other_scripts(answer: str, reference: str, f1: float) -> None:
    assert metrics.token_f1(answer, reference) == pytest.approx(f1)


@given(ENGLISH, ENGLISH)
def test_rouge_l_is_rouge_scores(answer: str, reference: str) -> None:
    assert metrics.rouge_l(answer, reference) == pytest.approx(rouge_score(answer, reference), abs=1e-9)


@given(CHINESE, CHINESE)
def test_rouge_l_of_chinese_is_that_of_its_characters(answer: str, reference: str) -> None:
    spelt = [re.sub("[一-龥]", lambda han: f" u{ord(han[0])} ", text) for text in (answer, reference)]
    assert metrics.rouge_l(answer, reference) == pytest.approx(rouge_score(*spelt), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("法国的首都是Paris,对吗?", ["法", "国", "的", "首", "都", "是", "paris", "对", "吗"]),
        ("スーパー・マン", list("スーパーマン")),
        ("Привет, мир!", ["привет", "мир"]),
        ("안녕 세상", ["안녕", "세상"]),
        ("यह हिन्दी है।", ["यह", "हिन्दी", "है"]),
        ("πr²h", ["π", "r", "h"]),
        ("naïve_x H₂O", ["na", "ve", "x", "h", "o"]),  # as rouge-score splits them
    ],
)
def test_rouge_tokens(text: str, tokens: list[str]) -> None:
    assert metrics.rouge_tokens(text) == tokens


@given(st.text("abc", max_size=70), st.text("abcd", max_size=70))
def test_longest_common_subsequence(first: str, second: str) -> None:
    assert metrics.longest_common(first, second) == table_of_longest_common(first, second)


@pytest.mark.parametrize(("answer", "reference"), ANSWERS)
def test_chrf_and_bleu_are_sacrebleus(answer: str, reference: str) -> None:
    tokenizer = "13a" if reference.isascii() else "char" if "ペン" in reference else "zh"
    assert metrics.chrf(answer, reference) == sacrebleu.sentence_chrf(answer, [reference]).score
    assert metrics.bleu(answer, reference) == sacrebleu.sentence_bleu(answer, [reference], tokenize=tokenizer).score


def test_scales() -> None:
    for text in ("The cat sat on the mat.", "猫坐在垫子上面。", "これはペンです。"):
        scores = {name: metric(text, text) for name, metric in metrics.METRICS.items() if name[:8] != "distinct"}
        assert scores == pytest.approx({name: 100 if name in ("chrf", "bleu") else 1 for name in scores})


@given(st.text(max_size=30), st.text(max_size=30))
def test_every_metric_takes_any_text(answer: str, reference: str) -> None:
    for name, metric in metrics.METRICS.items():
        top = {"chrf": 100, "bleu": 100, "length_ratio": 30}.get(name, 1)
        assert 0 <= metric(answer, reference) <= top + 1e-9


@pytest.mark.parametrize(
    ("answer", "reference", "ratio"), [("abcd", " ab ", 2), ("", "ab", 0), ("ab", "", 2), ("", " ", 1)]
)
def test_length_ratio(answer: str, reference: str, ratio: float) -> None:
    assert metrics.length_ratio(answer, reference) == ratio


def test_distinct() -> None:
    assert metrics.distinct(["a b a b"], 1) == 2 / 4
    assert metrics.distinct(["a b a b"], 2) == 2 / 3
    assert metrics.distinct(["a b", "a b"], 2) == 1 / 2  # between answers too, but not across their border
    assert metrics.distinct(["", "a"], 2) == 1


TAILS: list[tuple[list[int], bool]] = [
    ([], False),
    ([7] * 19, False),
    ([7] * 20, True),
    ([1, 2, 3, *[7] * 20], True),
    ([*[7] * 20, 1], False),  # it left the loop
    ([4, 5, 6] * 6, False),  # 18 tokens
    ([4, 5, 6] * 7, True),
    ([9, *[4, 5, 6] * 7, 4], True),  # the last repeat cut short by the cap
    (list(range(20)) * 3, False),  # three times only
    (list(range(20)) * 4, True),
    (list(range(21)) * 4, False),
    (list(range(500)), False),
]


@pytest.mark.parametrize(("ids", "loop"), TAILS)
@pytest.mark.parametrize("kind", [list, tuple])
def test_looped(ids: list[int], loop: bool, kind: type) -> None:
    assert metrics.looped(kind(ids)) is loop


@given(
    st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(0, 19)
)
def test_whatever_repeats_to_the_end_is_a_loop(start: list[int], gram: list[int], cut: int) -> None:
    repeats = max(4, -(-20 // len(gram)))
    assert metrics.looped(start + gram * repeats + gram[: cut % len(gram)])


@pytest.mark.parametrize(
    ("reason", "ids", "health"),
    [
        ("stop", (1, 2), {"stopped": 1, "length_capped": 0, "looped": 0}),
        ("length", (1, 2), {"stopped": 0, "length_capped": 1, "looped": 0}),
        ("length", (1,) * 30, {"stopped": 0, "length_capped": 1, "looped": 1}),
        ("stop", (1,) * 30, {"stopped": 1, "length_capped": 0, "looped": 1}),
    ],
)
def test_stop_health(reason: FinishReason, ids: tuple[int, ...], health: dict[str, float]) -> None:
    completion = Completion("", ids, reason, 1, 0.1)
    assert {name: flag(completion) for name, flag in metrics.STOP_HEALTH.items()} == health


def test_every_direction_names_a_score() -> None:
    assert {*metrics.LOWER_IS_BETTER, *metrics.UNDIRECTED} <= {*metrics.METRICS, *metrics.STOP_HEALTH, *metrics.RATIOS}
