"""Answers -> scores: each row on every metric, each metric with its interval, tuned against base row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedful.encode.tokenise import Encoder
from heedful.errors import DataError
from heedful.evaluate.likelihood import Likelihood, likelihood
from heedful.evaluate.metrics import LOWER_IS_BETTER, METRICS, STOP_HEALTH
from heedful.evaluate.stats import compare, interval, ratio_interval
from heedful.generate.engine import Engine
from heedful.records import Completion, Conversation, Message, Sampling

PAIRED = ("nll", "exact_match", "normalised_match", "token_f1", "rouge_l", "chrf", "bleu", *STOP_HEALTH)


@dataclass(frozen=True)
class Answers:
    """What a model made of the rows: an answer each, and how likely it finds the references."""

    completions: list[Completion]
    likelihood: Likelihood


def question(conversation: Conversation) -> tuple[Message, ...]:
    """Give what stands before the last answer."""
    return conversation.messages[:-1]


def reference(conversation: Conversation) -> str:
    return conversation.messages[-1].content


def answer(
    engine: Engine,
    encoder: Encoder,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    batch_size: int,
    on_done: Callable[[int], None] | None = None,
) -> Answers:
    """Let a model answer every conversation's last question, and measure the reference answers."""
    if not conversations:
        raise DataError(
            "There are no test rows to evaluate on.", "Give some with --data, or set data.test_share above 0."
        )
    completions = engine.generate([question(c) for c in conversations], sampling, batch_size, on_done)
    examples = [encoder.encode([_last_answer_only(c)])[0] for c in conversations]
    if not all(examples):
        raise DataError("A test row is longer than the model's limit.", "Set encode.long_rows=truncate.")
    return Answers(completions, likelihood(engine.model, [example for row in examples for example in row]))


def row_scores(answers: Answers, conversations: Sequence[Conversation]) -> dict[str, list[float]]:
    """Score each row on each metric."""
    pairs = [(c.text, reference(row)) for c, row in zip(answers.completions, conversations, strict=True)]
    scores = {name: [metric(*pair) for pair in pairs] for name, metric in METRICS.items()}
    return scores | {name: [flag(c) for c in answers.completions] for name, flag in STOP_HEALTH.items()}


def evaluation(models: Mapping[str, Answers], conversations: Sequence[Conversation], decides: str) -> dict[str, Any]:
    """Give evaluation.json: every model's scores with intervals, and `tuned` against `base` row by row."""
    rows = {name: row_scores(answers, conversations) for name, answers in models.items()}
    result: dict[str, Any] = {"rows": len(conversations), "decides": decides, "models": {}, "paired": {}}
    for name, answers in models.items():
        nll = ratio_interval(answers.likelihood.nll, answers.likelihood.targets)
        scores = {"nll": nll, **{metric: interval(values) for metric, values in rows[name].items()}}
        result["models"][name] = {metric: asdict(score) for metric, score in scores.items()}
    if {"base", "tuned"} <= models.keys():
        for metric in PAIRED:
            higher = metric not in LOWER_IS_BETTER
            if metric == "nll":
                base, tuned = models["base"].likelihood, models["tuned"].likelihood
                assert base.targets == tuned.targets, "both are measured on the same tokens"
                comparison = compare(base.nll, tuned.nll, higher, base.targets)
            else:
                comparison = compare(rows["base"][metric], rows["tuned"][metric], higher)
            result["paired"][metric] = asdict(comparison)
    return result


def responses(models: Mapping[str, Answers], conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
    """Give responses.json: each test row as it was read, with `model_response` and the base model's beside it."""
    table = []
    for i, conversation in enumerate(conversations):
        row = {**conversation.row, "place": str(conversation.place)}
        for name, answers in models.items():
            completion = answers.completions[i]
            key = "model_response" if name == "tuned" else f"{name}_response"
            row |= {key: completion.text, f"{key}_finish": completion.finish_reason}
        table.append(row)
    return table


def _last_answer_only(conversation: Conversation) -> Conversation:
    """Leave only the last answer supervised, as it is the one that is generated."""
    turns = [
        Message(m.role, m.content, i == len(conversation.messages) - 1, m.input)
        for i, m in enumerate(conversation.messages)
    ]
    return Conversation(conversation.id, tuple(turns), conversation.place, conversation.row)
