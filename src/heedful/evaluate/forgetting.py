"""What training cost elsewhere: short questions with known answers, put to the model before and after.

Small models rarely answer in the form asked for, so a probe is scored by likelihood first: `chosen` is 1 where the
right answer is likelier than each wrong one, which asks for no form and is 0.25 by chance. `nll` is that of the right
answer, in nats per token. Neither counts the stop token. `exact_match` is of the answer that the model writes.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

import numpy as np

from heedful.encode.tokenise import Encoder
from heedful.evaluate.likelihood import summed
from heedful.evaluate.metrics import exact_match, normalised_match
from heedful.evaluate.rows import Cell, RowScores
from heedful.generate.engine import Engine
from heedful.records import Conversation, Message, Place, Sampling, TokenizedExample

FILE = "probes.txt"
LONGEST_ANSWER = 16  # tokens


@dataclass(frozen=True)
class Probe:
    """A question with its right answer and wrong ones."""

    family: str
    question: str
    answer: str
    others: tuple[str, ...]
    line: int


@cache
def probes() -> tuple[Probe, ...]:
    """Read the probes that ship."""
    text = importlib.resources.files("heedful.evaluate").joinpath(FILE).read_text(encoding="utf-8")
    found, family, request = [], "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            family, _, request = line[1:].partition("] ")
        elif line and not line.startswith("#"):
            asked, answer, *others = line.split(" | ")
            found.append(Probe(family, f"{asked} {request}", answer, tuple(others), number))
    return tuple(found)


def probe(engine: Engine, encoder: Encoder) -> list[Cell]:
    """Put every probe to a model; give a cell each, or none at all if the model is too short for them."""
    asked = probes()
    examples, receipt = encoder.encode([_conversation(p, answer) for p in asked for answer in (p.answer, *p.others)])
    if receipt.truncated or receipt.dropped or receipt.refused:
        return []
    examples = [_without_stop(example) for example in examples]
    completions = engine.generate([p.question for p in asked], Sampling(max_tokens=LONGEST_ANSWER))
    measured = iter(zip(summed(engine.model, examples), examples, strict=True))
    cells = []
    for p, completion in zip(asked, completions, strict=True):
        (right, example), *wrong = islice(measured, 1 + len(p.others))
        targets = int(example.supervised.sum())
        match = exact_match if p.family == "format" else normalised_match
        values = {
            "chosen": float(right < min(nll for nll, _ in wrong)),
            "nll": right / targets,
            "exact_match": match(completion.text, p.answer),
        }
        cells.append(Cell(values, {"targets": targets}))
    return cells


def probe_rows(models: Mapping[str, Sequence[Cell]]) -> list[RowScores]:
    """Put the models' cells side by side, a row a probe; none at all if a model was too short for them."""
    if not all(models.values()):
        return []
    return [
        RowScores(
            f"{FILE}:{p.line}",
            f"{FILE}:{p.line}",
            hashlib.sha256(f"{p.question}|{p.answer}".encode()).hexdigest()[:16],
            {model: cells[i] for model, cells in models.items()},
            p.family,
        )
        for i, p in enumerate(probes())
    ]


def _conversation(probe: Probe, answer: str) -> Conversation:
    messages = Message("user", probe.question), Message("assistant", answer)
    return Conversation(f"{FILE}:{probe.line}", messages, Place(FILE, probe.line))


def _without_stop(example: TokenizedExample) -> TokenizedExample:
    """Leave the stop token, the last one supervised, out of what is measured."""
    supervised = example.supervised.copy()
    supervised[np.flatnonzero(supervised)[-1]] = False
    return replace(example, supervised=supervised)
