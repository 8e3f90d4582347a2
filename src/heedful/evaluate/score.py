"""Answers -> scores: each row on every metric, each metric with its interval, tuned against base row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.encode.scored import Scorable
from heedful.evaluate.checks import check_scores
from heedful.evaluate.likelihood import summed
from heedful.evaluate.metrics import METRICS, STOP_HEALTH, corpus_counts
from heedful.evaluate.rows import Cell, RowScores, key_of, response_key
from heedful.generate.engine import Engine
from heedful.generate.sampling import seeded_per_row
from heedful.records import Completion, Conversation


@dataclass(frozen=True)
class Answers:
    """What a model made of the rows: an answer each, and how likely it finds the references, stop tokens included."""

    completions: list[Completion]
    nll: list[float]  # summed over a reference's tokens, in nats
    targets: list[int]  # those tokens
    bytes: list[int]  # of a reference's text
    probes: Sequence[Cell] = ()  # see `forgetting`


def answer(engine: Engine, scorable: Scorable, on_done: Callable[[int], None] | None = None) -> Answers:
    """Let an engine answer every row's last question by its own sampling, and measure the references."""
    # Samplings are the same for every model, so that a row's answers stay a pair.
    samplings = seeded_per_row(engine.sampling, len(scorable.asked))
    completions = engine.generate([row.prompt for row in scorable.asked], samplings, on_done=on_done)
    targets = [int(example.supervised.sum()) for example in scorable.examples]
    sizes = [max(1, len(row.answer.encode())) for row in scorable.asked]
    return Answers(completions, summed(engine.model, scorable.examples), targets, sizes)


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
    completion, nll = answers.completions[i], answers.nll[i]
    pair = completion.text, conversation.answer
    weights = {"targets": answers.targets[i], "bytes": answers.bytes[i]}
    values = {"nll": nll / weights["targets"], "bits_per_byte": nll / math.log(2) / weights["bytes"]}
    values |= {name: metric(*pair) for name, metric in METRICS.items()}
    values |= {name: flag(completion) for name, flag in STOP_HEALTH.items()}
    values |= check_scores(conversation.checks, completion.text)
    return Cell(values, weights, corpus_counts(*pair))
