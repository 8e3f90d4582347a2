"""Scores by row: what scores.jsonl holds is enough for every interval and comparison."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from scipy import stats as scipy_stats

from heedful.errors import RunError
from heedful.evaluate import metrics, rows, summary
from heedful.evaluate.checks import check_scores
from heedful.evaluate.rows import Cell, RowScores
from heedful.evaluate.score import Answers, responses, score_rows
from heedful.evaluate.summary import evaluation
from heedful.records import Check, Completion, Conversation, Message, Place
from heedful.system.atomic import write_json

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "birds", "near", "an", "old", "tree"]
RNG = np.random.default_rng(3)
REFERENCES = [" ".join(RNG.choice(WORDS, RNG.integers(4, 12))) + "." for _ in range(60)]


def garbled(share: float) -> list[str]:
    """Exchange a share of the references' words."""
    rng = np.random.default_rng(5)
    return [" ".join("so" if rng.random() < share else word for word in text.split()) for text in REFERENCES]


BASE, TUNED = garbled(0.5), garbled(0.2)
CONVERSATIONS = [
    Conversation(
        f"f:{i}",
        (Message("user", f"Question {i}"), Message("assistant", text)),
        Place("f.json", i + 1),
        {"instruction": f"Question {i}", "output": text},
        (Check("max_words", 6),) if i % 2 else (),
    )
    for i, text in enumerate(REFERENCES)
]


def answers(texts: list[str], scale: float) -> Answers:
    completions = [Completion(text, tuple(range(len(text))), "stop", 3, 0.1) for text in texts]
    sizes = [len(text.encode()) for text in REFERENCES]
    targets = [len(text.split()) + 1 for text in REFERENCES]
    return Answers(completions, [scale * t + i % 3 for i, t in enumerate(targets)], targets, sizes)


SCORED = score_rows({"base": answers(BASE, 2.0), "tuned": answers(TUNED, 1.0)}, CONVERSATIONS)


@cache
def result() -> dict[str, Any]:
    return evaluation(SCORED, "rouge_l")


def test_the_contract_of_evaluation_json() -> None:
    assert result().keys() == {"decides", "rows", "models", "paired", "checks"}
    assert result()["rows"] == 60
    shown = {"nll", "bits_per_byte", *metrics.METRICS, *metrics.STOP_HEALTH, *metrics.CORPUS}
    for model in ("base", "tuned"):
        assert result()["models"][model].keys() == shown
        assert all(score.keys() == {"value", "low", "high", "n"} for score in result()["models"][model].values())
    assert result()["paired"].keys() == shown
    assert all(
        p.keys() == {"difference", "low", "high", "p_value", "verdict", "n"} for p in result()["paired"].values()
    )
    assert result()["checks"]["rows"] == 30
    assert result()["checks"]["models"]["tuned"].keys() == {"check_all", "check_max_words"}


@pytest.mark.parametrize(("model", "texts"), [("base", BASE), ("tuned", TUNED)])
def test_corpus_scores_are_sacrebleus(model: str, texts: list[str]) -> None:
    found = result()["models"][model]
    bleu = sacrebleu.corpus_bleu(texts, [REFERENCES]).score
    chrf = sacrebleu.corpus_chrf(texts, [REFERENCES]).score
    assert found["corpus_bleu"]["value"] == pytest.approx(bleu, abs=1e-9)
    assert found["corpus_chrf"]["value"] == pytest.approx(chrf, abs=1e-9)
    for name in metrics.CORPUS:
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_corpus_intervals_are_as_wide_as_sacrebleus_own() -> None:
    own = sacrebleu.metrics.BLEU().corpus_score(TUNED, [REFERENCES], n_bootstrap=1000)
    found = result()["models"]["tuned"]["corpus_bleu"]
    assert (found["high"] - found["low"]) / 2 == pytest.approx(own._ci, rel=0.15)


def test_corpus_comparison_agrees_with_sacrebleus_paired_test() -> None:
    from sacrebleu.significance import PairedTest

    named = [("base", BASE), ("tuned", TUNED)]
    found = PairedTest(named, {"BLEU": sacrebleu.metrics.BLEU(references=[REFERENCES])}, None, "ar", 2000)()[1]["BLEU"]
    pair = result()["paired"]["corpus_bleu"]
    assert pair["difference"] == pytest.approx(found[1].score - found[0].score, abs=1e-9)
    assert pair["verdict"] == "better"
    assert pair["p_value"] <= 0.01 >= found[1].p_value


def test_corpus_scores_of_the_same_answers_do_not_differ() -> None:
    same = score_rows({"base": answers(BASE, 2.0), "tuned": answers(BASE, 2.0)}, CONVERSATIONS)
    for pair in evaluation(same, "rouge_l")["paired"].values():
        assert (pair["difference"], pair["p_value"]) == (0, 1)
        assert pair["verdict"] == "within noise; no row differs"


def test_corpus_noise_asks_for_more_rows() -> None:
    one = [*BASE[:-1], REFERENCES[-1]]
    other = [REFERENCES[0], *BASE[1:]]
    pair = evaluation(score_rows({"base": answers(one, 1), "tuned": answers(other, 1)}, CONVERSATIONS), "bleu")
    assert pair["paired"]["corpus_bleu"]["p_value"] > 0.05
    assert "rows would be needed to tell" in pair["paired"]["corpus_bleu"]["verdict"]


def test_each_language_counts_in_its_own_tokens() -> None:
    english, chinese = ("the cat sat on it", "the cat sat on that"), ("猫坐在那里吃鱼", "猫坐在这里吃鱼")
    sums = np.sum([metrics.corpus_counts(*pair)["corpus_bleu"] for pair in (english, chinese)], axis=0)
    spelt = [" ".join(text) for text in chinese]
    oracle = sacrebleu.corpus_bleu([english[0], spelt[0]], [[english[1], spelt[1]]]).score
    assert metrics.corpus_score("corpus_bleu", sums) == pytest.approx(oracle, abs=1e-9)


def test_ratios_weigh_rows_by_their_tokens_and_bytes() -> None:
    likely = answers(TUNED, 1.0)
    found = result()["models"]["tuned"]
    assert found["nll"]["value"] == pytest.approx(sum(likely.nll) / sum(likely.targets), abs=1e-9)
    bits = sum(likely.nll) / math.log(2) / sum(len(text.encode()) for text in REFERENCES)
    assert found["bits_per_byte"]["value"] == pytest.approx(bits, abs=1e-9)
    assert result()["paired"]["bits_per_byte"]["verdict"] == "better"


def test_means_and_tests_are_scipys() -> None:
    base, tuned = ([row.cells[m].values["rouge_l"] for row in SCORED] for m in ("base", "tuned"))
    assert result()["models"]["base"]["rouge_l"]["value"] == pytest.approx(np.mean(base), abs=1e-9)
    low, high = scipy_stats.bootstrap(
        (base,), np.mean, n_resamples=9_999, batch=1_000_000 // 60, method="percentile", rng=np.random.default_rng(123)
    ).confidence_interval
    assert result()["models"]["base"]["rouge_l"]["low"] == pytest.approx(low, abs=1e-9)
    assert result()["models"]["base"]["rouge_l"]["high"] == pytest.approx(high, abs=1e-9)
    assert result()["paired"]["rouge_l"]["p_value"] < 0.001 > scipy_stats.ttest_rel(tuned, base).pvalue


def test_a_score_without_a_better_end_is_only_higher_or_lower() -> None:
    assert result()["paired"]["distinct_1"]["verdict"] in ("higher", "lower")
    assert metrics.higher_is_better("length_ratio") is None


@pytest.mark.parametrize("metric", ["exact_match", "stopped", "chosen", "check_max_words", "judge_wins"])
def test_a_share_has_an_interval_where_all_rows_are_alike(metric: str) -> None:
    cells = [[Cell({metric: value})] * 10 for value in (0.0, 1.0)]
    found = summary.score(cells[1], metric)
    assert found and found.low < 0.73 < found.high == 1
    compared = summary.comparison(cells[0], cells[1], metric)
    assert compared and 0.5 < compared.low < compared.difference == 1


@pytest.mark.parametrize("metric", ["length_ratio", "judge_score", "rouge_l"])
def test_zeros_and_ones_do_not_make_a_share(metric: str) -> None:
    found = summary.score([Cell({metric: 1.0})] * 10, metric)
    assert found and (found.low, found.high) == (1, 1)


def test_checks_are_scored_on_the_rows_that_declare_them() -> None:
    kept = [check_scores((Check("max_words", 6),), text)["check_all"] for text in TUNED[1::2]]
    found = result()["checks"]["models"]["tuned"]["check_all"]
    assert (found["value"], found["n"]) == (pytest.approx(np.mean(kept)), 30)


def test_rows_are_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    rows.write_rows(path, SCORED)
    again = rows.read_rows(path)
    assert evaluation(again, "rouge_l") == result()
    assert [row.key for row in again] == [row.key for row in SCORED]
    assert len({row.key for row in SCORED}) == 60


@pytest.mark.parametrize("text", ["{", "[]", '{"id": 1}', '{"models": []}', "\x00"])
def test_a_damaged_file_of_scores_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(text)
    with pytest.raises(RunError, match="Cannot read"):
        rows.read_rows(path)
    path.unlink()
    with pytest.raises(RunError, match="not evaluated yet"):
        rows.read_rows(path)


def test_rows_may_have_any_name(tmp_path: Path) -> None:
    """U+2028 and its like part lines for some readers, and may stand in a file's name."""
    named = [RowScores(f"a\u2028{i}", "a\u2028b\x85c.json (row 1)", "k", {}) for i in range(2)]
    rows.write_rows(tmp_path / "scores.jsonl", named)
    assert rows.read_rows(tmp_path / "scores.jsonl") == named


@pytest.mark.parametrize(
    ("place", "told", "command"),
    [
        ("my run", {}, "heedful evaluate '{}/my run' again"),
        ("mine/evaluations/x-1", {"of": {"data": "my x.json"}}, "heedful evaluate {}/mine --data 'my x.json' again"),
        ("mine/evaluations/x-1", {}, "heedful evaluate {}/mine --data FILE again"),
    ],
)
def test_the_command_that_mends_a_file_of_scores(place: str, told: object, command: str, tmp_path: Path) -> None:
    (tmp_path / place).mkdir(parents=True)
    write_json(tmp_path / place / "evaluation.json", told)
    (tmp_path / place / "scores.jsonl").write_text("{")
    with pytest.raises(RunError) as error:
        rows.read_rows(tmp_path / place / "scores.jsonl")
    assert f"Run {command.format(tmp_path)}." in str(error.value)


def test_a_ratio_with_other_denominators_is_not_compared() -> None:
    one = [Cell({"nll": 1.0, "bits_per_byte": 1.0}, {"targets": 3, "bytes": 9}) for _ in range(8)]
    other = [Cell({"nll": 2.0, "bits_per_byte": 2.0}, {"targets": 4, "bytes": 9}) for _ in range(8)]
    assert summary.comparison(one, other, "nll") is None
    assert summary.comparison(one, other, "bits_per_byte") is not None
    assert summary.comparison(one, other, "rouge_l") is None


def test_rows_that_stand_twice_are_told_apart() -> None:
    assert rows.unique(["a", "b", "a"]) == ["a:1", "b:1", "a:2"]


def test_a_row_is_known_by_what_is_said_in_it() -> None:
    moved = Conversation("g:1", CONVERSATIONS[0].messages, Place("g.csv", 9))
    assert rows.key_of(moved) == rows.key_of(CONVERSATIONS[0]) != rows.key_of(CONVERSATIONS[1])


def test_responses_hold_each_row_as_it_was_read() -> None:
    table = responses({"base": answers(BASE, 1), "tuned": answers(TUNED, 1)}, CONVERSATIONS)
    assert table[3]["instruction"] == "Question 3"
    assert (table[3]["model_response"], table[3]["base_response"]) == (TUNED[3], BASE[3])
    assert isinstance(SCORED[0], RowScores)
