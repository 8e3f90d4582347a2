"""Prompts -> answers, for every surface: it yields, everything else consumes.

One answer is token for token the same alone, in a batch of any size, streamed or not. Where the model has a Decoder,
its logits are a function of the row's tokens, bit for bit. Elsewhere a choice that the noise of arithmetic could turn
(see `sampling`) is made on logits recomputed from the row's tokens alone (`forward.unbatched_logits`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.config import ANSWERS_AT_ONCE
from heedful.errors import ModelError, NotFinite, UsageError
from heedful.generate.decoder import Decoder, build
from heedful.generate.forward import Padded, unbatched_logits
from heedful.generate.prefix_cache import PrefixCache
from heedful.generate.probe import batch_kind, is_batch_invariant, matches_model
from heedful.generate.prompts import check_prompts, messages_of, samplings_of
from heedful.generate.row import Event, Row
from heedful.generate.sampling import is_arg_max, pick, recorded, seeded_per_prompt
from heedful.generate.slots import Slots
from heedful.generate.text import TextStream
from heedful.model.pretrained import max_positions
from heedful.model.vocabulary import check_ids
from heedful.records import Completion, Message, Sampling

Prompt = str | Sequence[Message | Mapping[str, str]]  # a mapping holds `role` and `content`
GREEDY = Sampling()

# At least twice the largest change that batch shape made to a logit of a real model (SmolLM2-135M): 5e-5 in fp32, 0.5
# in bf16 (fp16 rounds an eighth as much). In bf16 two choices in five are then recomputed: fp32 is the better bargain.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 0.125, torch.bfloat16: 1.0}
CACHE_TOKENS = 2**15  # most tokens, answers at their longest, that a batch may put into the cache


class Prompter(Protocol):
    """What knows the prompt format: `encode` gives one."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def stop_ids(self) -> frozenset[int]: ...  # any of these ends an answer

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]: ...


class Engine:
    """A model that answers.

    Weights are copied into a Decoder of `dtype` (the model's own if not given) where that computes what the model does
    and no row notices its company; elsewhere the model itself is used, as it is.
    """

    def __init__(
        self, model: PreTrainedModel, prompter: Prompter, name: str = "", dtype: torch.dtype | None = None
    ) -> None:
        self.model = model
        self.prompter = prompter
        self.name = name
        self.positions = max_positions(model.config)
        self.tolerance = TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16])
        self.sampling = GREEDY  # where no other is asked for
        self.batch_size = ANSWERS_AT_ONCE  # the same
        self.prefix_cache: PrefixCache | None = None  # what earlier prompts read, for `decode`; None: start afresh
        self.decoder = verified_decoder(model, dtype or model.dtype)
        self.batch_kind = Padded if self.decoder else batch_kind(model)  # where the model itself reads the rows

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | Sequence[Sampling] | None = None,
        batch_size: int | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Answer all prompts, in their order; `on_done` is called after each answer with how many there are.

        Without `sampling` each of several prompts draws from a seed of its own; one that is given is taken as it is.
        """
        done: dict[int, Completion] = {}
        for place, completion in self.answers(prompts, sampling, batch_size):
            done[place] = completion
            if on_done:
                on_done(len(done))
        return [done[i] for i in range(len(prompts))]

    def answers(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | Sequence[Sampling] | None = None,
        batch_size: int | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        """As `generate`, but give each answer, with the place of its prompt, as soon as it is whole."""
        check_prompts(prompts)
        batch_size = self.batch_size if batch_size is None else batch_size
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size} answers nothing.", "It must be at least 1.")
        own = seeded_per_prompt(self.sampling, len(prompts))
        samplings = samplings_of(own if sampling is None else sampling, len(prompts))
        rows = [self.row(i, *pair) for i, pair in enumerate(zip(prompts, samplings, strict=True))]
        waiting = sorted(rows, key=lambda row: -row.prompt_tokens)
        running = RunningBatch(self)
        while waiting or running.rows:
            count = running.room(waiting, batch_size)
            joining, waiting = waiting[:count], waiting[count:]
            for event in running.join(joining) if joining else running.step():
                if event.completion:
                    yield event.row, event.completion

    def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> Iterator[str | Completion]:
        """Return an answer's text piece by piece, then the whole Completion; the pieces, joined, are its text."""
        samplings = samplings_of(self.sampling if sampling is None else sampling, 1)
        for event in self.decode([self.row(0, prompt, *samplings)]):
            if event.text:
                yield event.text
            if event.completion:
                yield event.completion

    def decode(self, rows: Sequence[Row]) -> Iterator[Event]:
        """Answer a batch token by token; a row leaves when its answer is whole."""
        running = RunningBatch(self, self.prefix_cache)
        yield from running.join(rows)
        while running.rows:
            yield from running.step()

    def release(self) -> None:
        """Free the model's own matrices where the Decoder has copies; the model is of no other use from then on."""
        if self.decoder is None:
            return
        looked_up = {id(part.weight) for part in self.model.modules() if isinstance(part, torch.nn.Embedding)}
        for weight in self.model.parameters():
            # a copy of what is kept lets go of the mapped file that all weights of a folder may be views of
            weight.data = weight.data.clone() if id(weight) in looked_up else weight.data.new_empty(0)

    def choose(self, rows: Sequence[Row], logits: torch.Tensor) -> list[int]:
        """Choose each row's next token, the same in any company."""
        likeliest, tokens = (part.tolist() for part in logits.max(-1))
        if not all(map(math.isfinite, likeliest)):
            raise NotFinite
        for i, row in enumerate(rows):
            if self.decoder is None and row.sampling.logprobs is None:
                tokens[i] = self._pick(row, logits[i])
                continue
            exact = logits[i] if self.decoder else unbatched_logits(self.model, row.tokens)
            if self.decoder is None or not is_arg_max(row.sampling):
                tokens[i], _ = pick(exact, row.tokens, row.answered, row.sampling)
            if row.sampling.logprobs is not None:
                row.choices.append(recorded(exact, tokens[i], row.sampling.logprobs, row.text.length))
        return tokens

    def _pick(self, row: Row, logits: torch.Tensor) -> int:
        """Choose a row's next token from logits that its company may have turned."""
        token, clear = pick(logits, row.tokens, row.answered, row.sampling, self.tolerance)
        if not clear:
            token, _ = pick(unbatched_logits(self.model, row.tokens), row.tokens, row.answered, row.sampling)
        return token

    def count(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt."""
        return len(self.prompter.prompt_ids(messages))

    def row(self, index: int, prompt: Prompt, sampling: Sampling) -> Row:
        """Turn a prompt into the row that will hold its answer."""
        return self.continuing(index, list(self.prompter.prompt_ids(messages_of(prompt))), sampling)

    def continuing(self, index: int, tokens: list[int], sampling: Sampling) -> Row:
        """Make the row whose answer continues these tokens."""
        if len(tokens) >= self.positions:
            raise ModelError(
                f"A prompt of {len(tokens)} tokens leaves no room in a model of {self.positions} positions.",
                "Shorten it.",
            )
        check_ids(tokens, self.model)
        limit = min(sampling.max_tokens, self.positions - len(tokens))
        text = TextStream(self.prompter.tokenizer, sampling.stop)
        return Row(index, tokens, len(tokens), sampling, limit, text)


class RunningBatch:
    """A running batch: rows join at any time, and leave when their answers are whole or nobody waits for them."""

    def __init__(self, engine: Engine, prefix_cache: PrefixCache | None = None) -> None:
        self.engine = engine
        self.rows: list[Row] = []
        decoder = engine.decoder
        self._batch = Slots(decoder, prefix_cache) if decoder else engine.batch_kind(engine.model)

    def join(self, rows: Sequence[Row]) -> list[Event]:
        """Read the prompts of new rows; give their first tokens' events."""
        for row in rows:
            row.started = time.perf_counter()
        logits = self._batch.join([row.tokens for row in rows])
        joined = len(self.rows)
        self.rows += rows
        return self._take(joined, logits)

    def room(self, waiting: Sequence[Row], most: int, at_once: bool = False) -> int:
        """Say how many of the waiting rows should join now; at least one if none is running.

        Reading a few prompts costs as much as reading many, so they wait until a quarter of the places is free; rows
        that are padded together wait for an empty batch. With `at_once` they wait for a place alone.
        """
        if self.rows and not at_once and (not self._batch.exact or len(self.rows) > most * 3 // 4):
            return 0
        count, longest = len(self.rows), max((row.longest for row in self.rows), default=0)
        for joining, row in enumerate(waiting):
            longest = max(longest, row.longest)
            if count + joining and (count + joining == most or (count + joining + 1) * longest > CACHE_TOKENS):
                return joining
        return len(waiting)

    def step(self) -> list[Event]:
        """Give every row its next token."""
        return self._take(0, self._batch.step([row.tokens[-1] for row in self.rows]))

    def drop(self, rows: Collection[Row]) -> None:
        """Remove rows whose answers nobody waits for."""
        stays = [row not in rows for row in self.rows]
        if not all(stays):
            self.rows = [self.rows[old] for old in self._batch.keep(stays)]

    def _take(self, first: int, logits: torch.Tensor) -> list[Event]:
        """Let the rows from `first` on choose from their logits."""
        rows, events, done = self.rows[first:], [], []
        for row, token in zip(rows, self.engine.choose(rows, logits), strict=True):
            piece, reason = row.accept(token, self.engine.prompter.stop_ids)
            completion = row.completion(reason) if reason else None
            events.append(Event(row.index, piece, completion, row.told() if row.choices else ()))
            done += [row] if reason else []
        self.drop(done)
        return events


def verified_decoder(model: PreTrainedModel, dtype: torch.dtype) -> Decoder | None:
    """Make the model's Decoder; None if there is none, or it fails the probe."""
    decoder = build(model, dtype)
    return decoder if decoder and matches_model(decoder, model) and is_batch_invariant(decoder) else None
