"""What the run's own model says to a few questions, and whether another model says the same.

Greedy decoding takes, at each position, the likeliest token. So a model answers as the run does if and only if, along
the run's answer, its likeliest token is the run's at every position: one forward tells, without decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import torch
from transformers import PreTrainedModel

from heedful.config import DataConfig
from heedful.data import load_splits
from heedful.encode.prompt_receipt import GOLDEN
from heedful.encode.tokenise import Encoder
from heedful.errors import DataError, ExportError, ModelError, UsageError
from heedful.generate.engine import Engine
from heedful.model import pretrained
from heedful.records import Conversation, Message, Sampling
from heedful.reporter import Reporter
from heedful.system.heap import give_back_pages

QUESTIONS = 20
ANSWER_TOKENS = 32  # of each answer are compared

Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Reference:
    """The run's answers in fp32: prompts and answers as token ids, an answer's stop token with it."""

    prompts: list[Messages]  # the questions, then the golden prompts
    ids: list[list[int]]  # of every prompt
    answers: list[list[int]]  # of the questions, which come first
    scores: list[torch.Tensor]  # [answer tokens, vocabulary] logits

    @property
    def question_ids(self) -> list[list[int]]:
        return self.ids[: len(self.answers)]


@dataclass
class Agreement:
    """How another model's answers compare. A near tie: where they part, the run hardly preferred its own token."""

    answers: int
    equal: int = 0
    near_ties: int = 0
    different: int = 0

    def add(self, margin: float | None, tie: float) -> None:
        """Count an answer; `margin` is how much the run preferred its token where they part, None if they do not."""
        if margin is None:
            self.equal += 1
        elif margin <= tie:
            self.near_ties += 1
        else:
            self.different += 1


def parts(data: DataConfig, reporter: Reporter) -> list[Sequence[Conversation]]:
    """Return the run's rows, those held back first; the set that ships, where the run's data is not there any more."""
    try:
        splits, _ = load_splits(data)
    except (DataError, UsageError) as error:
        reporter.say(f"The run's data cannot be read, so the set that ships gives the questions: {error.problem}")
        splits, _ = load_splits(data.model_copy(update={"path": "builtin", "format": "auto", "columns": {}}))
    return [splits.test, splits.validation, splits.train]


def refer(folder: Path, encoder: Encoder, parts: Sequence[Sequence[Conversation]]) -> Reference:
    """Let a folder's model answer the first questions that its template takes."""
    engine = Engine(pretrained.load(str(folder)).model, encoder)
    engine.release()
    give_back_pages()
    rooms = (engine.positions - ANSWER_TOKENS, engine.positions - 1)  # the second for a template that takes nearly all
    found = ([*islice(_questions(encoder, chain(*parts), room), QUESTIONS)] for room in rooms)
    asked = next(filter(None, found), [])
    golden = [(messages, ids) for messages in GOLDEN if (ids := _ids(encoder, messages))]
    if not asked:
        raise ExportError(
            "No question fits this model, so an export could not be checked.", "Put back the rows that it learned from."
        )
    completions = engine.generate([messages for messages, _ in asked], Sampling(ANSWER_TOKENS))
    del engine
    give_back_pages()
    model = pretrained.load(str(folder)).model  # the engine's copy of the weights has gone: never both
    both = [*asked, *golden]
    reference = Reference([messages for messages, _ in both], [ids for _, ids in both], [], [])
    for (_, prompt), completion in zip(asked, completions, strict=True):
        answer = list(completion.token_ids)
        logits = _logits(model, [*prompt, *answer], len(answer) + 1)
        if completion.finish_reason == "stop":
            answer.append(max(encoder.stop_ids, key=lambda token: float(logits[-1, token])))
        reference.answers.append(answer)
        reference.scores.append(logits[: len(answer)])
    return reference


def scores(model: PreTrainedModel, reference: Reference) -> list[torch.Tensor]:
    """Return a model's logits at each position of the run's answers."""
    pairs = zip(reference.question_ids, reference.answers, strict=True)
    return [_logits(model, [*prompt, *answer[:-1]], len(answer)) for prompt, answer in pairs]


@torch.inference_mode()
def _logits(model: PreTrainedModel, ids: list[int], last: int) -> torch.Tensor:
    """Return the logits of the last positions, [last, vocabulary]."""
    found: torch.Tensor = model(torch.tensor([ids]), use_cache=False, logits_to_keep=last).logits[0].float()
    return found


def largest_difference(reference: Reference, other: Sequence[torch.Tensor]) -> float:
    """Return the largest difference of two logits of a kind; NaN where one of them is none."""
    return float(torch.stack([(a - b).abs().max() for a, b in zip(reference.scores, other, strict=True)]).max())


def divergence(reference: Reference, other: Sequence[torch.Tensor]) -> dict[str, float]:
    """Return the Kullback-Leibler divergence of the other's next token from the run's, in nats a token."""
    each = torch.cat(
        [
            torch.nn.functional.kl_div(b.log_softmax(-1), a.log_softmax(-1), reduction="none", log_target=True).sum(-1)
            for a, b in zip(reference.scores, other, strict=True)
        ]
    )
    return {"mean": float(each.mean().clamp(min=0)), "max": float(each.max().clamp(min=0))}


def agreement(reference: Reference, answers: Sequence[Sequence[int]], tie: float) -> Agreement:
    """Compare the run's answers with another's: the likeliest token at each position, or what a program decoded.

    `tie` is in logits.
    """
    agreed = Agreement(len(reference.answers))
    for answer, ours, theirs in zip(reference.answers, reference.scores, answers, strict=True):
        agreed.add(_margin(answer, ours, theirs), tie)
    return agreed


def _margin(answer: Sequence[int], ours: torch.Tensor, theirs: Sequence[int]) -> float | None:
    """Return how much the run preferred its own token where the other first takes another one; None if nowhere."""
    for position, (token, other) in enumerate(zip(answer, theirs, strict=False)):
        if token != other:
            return float(ours[position, token] - ours[position, other])
    return None if len(theirs) >= len(answer) else float("inf")


def _questions(encoder: Encoder, rows: Iterable[Conversation], room: int) -> Iterator[tuple[Messages, list[int]]]:
    """Give the questions that the template takes, with their tokens; one beyond `room` is cut as for training."""
    cutting = replace(encoder, max_tokens=room + 1)  # an answer has one at least
    for row in rows:
        asked = row if len(_ids(encoder, row.prompt)) <= room else cutting.fitted(row)
        if asked and (ids := _ids(encoder, asked.prompt)):
            yield asked.prompt, ids


def _ids(encoder: Encoder, messages: Messages) -> list[int]:
    """Return a prompt's tokens, none where the template refuses it."""
    try:
        return encoder.prompt_ids(messages)
    except ModelError:
        return []
