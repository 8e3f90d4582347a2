"""Prompts -> answers, for every surface: it yields, everything else consumes.

One answer is token for token the same alone, in a batch of any size, streamed or not: a choice that the noise of
arithmetic could turn (see `sampling`) is made on logits recomputed from the row's tokens alone (`forward.alone`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.errors import ModelError
from heedful.generate.forward import alone, prefill, step
from heedful.generate.sampling import check, pick
from heedful.generate.text import TextStream
from heedful.model import max_positions
from heedful.records import Completion, FinishReason, Message, Sampling

Prompt = str | Sequence[Message]
GREEDY = Sampling()

# At least twice the most that batch shape changed in a logit of a real model (SmolLM2-135M): 5e-5 in fp32, 0.5 in bf16
# (fp16 has an eighth of its rounding). In bf16 two choices in five are then recomputed: fp32 is the better bargain.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 0.125, torch.bfloat16: 1.0}
CACHE_TOKENS = 2**15  # most tokens, answers at their longest, that a batch may put into the cache


class Prompter(Protocol):
    """What knows the prompt format: `encode` gives one."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def stop_ids(self) -> frozenset[int]: ...  # any of these ends an answer

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]: ...


@dataclass
class Counts:
    """What an engine has done: tokens chosen, and how many choices needed a recomputation to be the same anywhere."""

    tokens: int = 0
    recomputed: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A row took one more token: the text that became certain, and the answer if it is whole."""

    row: int
    text: str
    completion: Completion | None


@dataclass(eq=False)
class Row:
    """One answer in the making; `index` is its place among the prompts."""

    index: int
    tokens: list[int]  # prompt and answer
    prompt_tokens: int
    sampling: Sampling
    limit: int  # most tokens of the answer
    text: TextStream

    @property
    def answered(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    def accept(self, token: int, stop_ids: frozenset[int]) -> tuple[str, FinishReason | None]:
        """Take the next token; give the text that became certain, and why the answer ends if it does."""
        if token in stop_ids:
            return self.text.flush(), "stop"
        self.tokens.append(token)
        piece = self.text.push(token)
        if self.text.stopped:
            return piece, "stop"
        if self.answered < self.limit:
            return piece, None
        piece += self.text.flush()
        return piece, "stop" if self.text.stopped else "length"

    def completion(self, reason: FinishReason, seconds: float) -> Completion:
        answer = tuple(self.tokens[self.prompt_tokens :])
        return Completion(self.text.text, answer, reason, self.prompt_tokens, seconds)


class Engine:
    """A model that answers. `counts` says how often noise had to be ruled out."""

    def __init__(self, model: PreTrainedModel, prompter: Prompter, name: str = "") -> None:
        self.model = model
        self.prompter = prompter
        self.name = name
        self.positions = max_positions(model.config)
        self.tolerance = TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16])
        self.counts = Counts()

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | Sequence[Sampling] = GREEDY,
        batch_size: int = 64,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Answer all prompts, in their order; `on_done` hears after each answer how many there are."""
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        rows = [self._row(i, *pair) for i, pair in enumerate(zip(prompts, samplings, strict=True))]
        done: dict[int, Completion] = {}
        for batch in batches(rows, batch_size):
            for event in self.decode(batch):
                if event.completion:
                    done[event.row] = event.completion
                    if on_done:
                        on_done(len(done))
        return [done[i] for i in range(len(prompts))]

    def stream(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Iterator[str | Completion]:
        """Give an answer's text piece by piece, then the whole Completion; the pieces, joined, are its text."""
        for event in self.decode([self._row(0, prompt, sampling)]):
            if event.text:
                yield event.text
            if event.completion:
                yield event.completion

    def decode(self, rows: Sequence[Row]) -> Iterator[Event]:
        """Answer a batch token by token; a row leaves when its answer is whole."""
        started = time.perf_counter()
        logits, state = prefill(self.model, [row.tokens for row in rows])
        while True:
            going = []
            for row, scores in zip(rows, logits, strict=True):
                piece, reason = row.accept(self._pick(row, scores), self.prompter.stop_ids)
                going.append(reason is None)
                seconds = time.perf_counter() - started
                yield Event(row.index, piece, row.completion(reason, seconds) if reason else None)
            if not any(going):
                return
            if not all(going):
                kept = fill_gaps(going)
                rows = [rows[i] for i in kept]
                state.select(kept)
            logits = step(self.model, state, [row.tokens[-1] for row in rows])

    def _pick(self, row: Row, logits: torch.Tensor) -> int:
        """Choose a row's next token, the same in any batch."""
        self.counts.tokens += 1
        token, clear = pick(logits, row.tokens, row.answered, row.sampling, self.tolerance)
        if not clear:
            self.counts.recomputed += 1
            logits = alone(self.model, row.tokens)
            if not torch.isfinite(logits.max()):
                raise ModelError("The model computes no numbers (its logits are NaN or infinite).", "Was it trained?")
            token, _ = pick(logits, row.tokens, row.answered, row.sampling)
        return token

    def _row(self, index: int, prompt: Prompt, sampling: Sampling) -> Row:
        """Turn a prompt into the row that will hold its answer."""
        messages = [Message("user", prompt)] if isinstance(prompt, str) else prompt
        tokens = list(self.prompter.prompt_ids(messages))
        if len(tokens) >= self.positions:
            raise ModelError(
                f"A prompt of {len(tokens)} tokens leaves no room in a model of {self.positions} positions.",
                "Shorten it.",
            )
        limit = min(check(sampling).max_tokens, self.positions - len(tokens))
        text = TextStream(self.prompter.tokenizer, sampling.stop)
        return Row(index, tokens, len(tokens), sampling, limit, text)


def batches(rows: Sequence[Row], batch_size: int) -> Iterator[list[Row]]:
    """Cut rows, longest prompt first, into batches whose cache cannot outgrow its budget."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: -row.prompt_tokens):
        longest = max(row.limit for row in [*batch, row]) + (batch or [row])[0].prompt_tokens
        if batch and (len(batch) == batch_size or (len(batch) + 1) * longest > CACHE_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def fill_gaps(going: Sequence[bool]) -> list[int]:
    """Order the rows that go on so that few change place: T F T F T -> [0, 4, 2]: the last moves into the first gap."""
    count = sum(going)
    movers = [i for i in range(len(going) - 1, count - 1, -1) if going[i]]
    return [i if going[i] else movers.pop(0) for i in range(count)]
