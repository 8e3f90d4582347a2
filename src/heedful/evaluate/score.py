"""Answers -> scores: each row on every metric, each metric with its interval, tuned against base row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heedful.encode.tokenise import Encoder
from heedful.errors import DataError
from heedful.evaluate.checks import check_scores
from heedful.evaluate.likelihood import summed
from heedful.evaluate.metrics import METRICS, STOP_HEALTH, corpus_counts
from heedful.evaluate.rows import Cell, RowScores, key_of, response_key
from heedful.generate.engine import Engine
from heedful.generate.sampling import seeded_per_row
from heedful.records import Completion, Conversation


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Summed negative log-likelihood, in nats, of each row's supervised tokens, their number, and the text's bytes."""

    nll: list[float]
    targets: list[int]
    bytes: list[int]


@dataclass(frozen=True)
class Answers:
    """What a model made of the rows: an answer each, and how likely it finds the references."""

    completions: list[Completion]
    likelihood: Likelihood
    probes: Sequence[Cell] = ()  # see `forgetting`
    cut: int = 0  # rows that were too long for the model


def answer(
    engine: Engine,
    encoder: Encoder,
    conversations: Sequence[Conversation],
    on_done: Callable[[int], None] | None = None,
) -> Answers:
    """Let an engine answer every conversation's last question by its own sampling, and measure the references.

    Only the last answer is scored, whichever turns were supervised in training. A row too long for the model is cut as
    it would be there, prompt first.
    """
    whole = list(map(_last_answer_only, conversations))
    rows = [_fitted(encoder, conversation) for conversation in whole]
    samplings = seeded_per_row(
        engine.sampling, len(rows)
    )  # the same for every model, so that a row's answers stay a pair
    completions = engine.generate([row.prompt for row in rows], samplings, on_done=on_done)
    cut = sum(row is not conversation for row, conversation in zip(rows, whole, strict=True))
    return Answers(completions, likelihood(engine, encoder, rows), cut=cut)


def likelihood(engine: Engine, encoder: Encoder, conversations: Sequence[Conversation]) -> Likelihood:
    """Measure what is supervised in conversations that fit, stop tokens included."""
    examples = encoder.encode(conversations)[0]
    targets = [int(example.supervised.sum()) for example in examples]
    sizes = [max(1, len(conversation.answer.encode())) for conversation in conversations]
    return Likelihood(summed(engine.model, examples), targets, sizes)


def _fitted(encoder: Encoder, conversation: Conversation) -> Conversation:
    row = encoder.fitted(conversation)
    if row is None:
        raise DataError(
            f"{conversation.place}: the row is longer than the model's limit of {encoder.max_tokens} tokens.",
            "Shorten it, or leave it out.",
        )
    return row


def score_rows(models: Mapping[str, Answers], conversations: Sequence[Conversation]) -> list[RowScores]:
    """Score every row under every model."""
    return [
        RowScores(
            conversation.id,
            str(conversation.place),
            key_of(conversation),
            {name: _cell(answers, i, conversation) for name, answers in models.items()},
        )
        for i, conversation in enumerate(conversations)
    ]


def responses(models: Mapping[str, Answers], conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
    """Return responses.json: each test row as it was read, with `model_response` and the base model's beside it."""
    table = []
    for i, conversation in enumerate(conversations):
        row = {**conversation.row, "place": str(conversation.place)}
        for name, answers in models.items():
            completion = answers.completions[i]
            key = response_key(name)
            row |= {key: completion.text, f"{key}_finish": completion.finish_reason}
        table.append(row)
    return table


def _cell(answers: Answers, i: int, conversation: Conversation) -> Cell:
    completion, likely = answers.completions[i], answers.likelihood
    pair = completion.text, conversation.answer
    nll, weights = likely.nll[i], {"targets": likely.targets[i], "bytes": likely.bytes[i]}
    values = {"nll": nll / weights["targets"], "bits_per_byte": nll / math.log(2) / weights["bytes"]}
    values |= {name: metric(*pair) for name, metric in METRICS.items()}
    values |= {name: flag(completion) for name, flag in STOP_HEALTH.items()}
    values |= check_scores(conversation.checks, completion.text)
    return Cell(values, weights, corpus_counts(*pair))


def _last_answer_only(conversation: Conversation) -> Conversation:
    """Leave only the last answer supervised, as it is the one that is generated."""
    last = len(conversation.messages) - 1
    turns = tuple(replace(m, supervised=i == last) for i, m in enumerate(conversation.messages))
    return replace(conversation, messages=turns)
