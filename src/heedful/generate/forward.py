"""Token ids -> logits of the next token, through any model as it is.

`prefill` a batch, `step` it; `unbatched_logits` for one row by itself. Rows are padded on the left; the mask says which
columns are real and every token carries its position, so padding is never recognised by an id. Equal beginnings of a
batch's prompts are computed once. Models for which that is wrong (`probe.batch_kind` asks) keep their rows `Apart`, or
have each `Recomputed`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from heedful.generate.cache import attends_to_all, new_cache
from heedful.generate.slots import fill_gaps
from heedful.model.causal import takes

CHUNK_TOKENS = 4096  # most tokens in one forward of `prefill`, which bounds its memory
WORTH_SHARING = 8  # shorter equal beginnings are not worth a forward of their own


@dataclass
class State:
    """A batch inside the model: what it has seen of each row."""

    cache: DynamicCache
    mask: torch.Tensor  # [rows, columns] int64: 1 where a column of the cache is real
    positions: torch.Tensor  # [rows] int64: the position of the next token

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order."""
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask, self.positions = self.mask[index], self.positions[index]


class Padded:
    """A running batch of any model, as `Slots` is of a Decoder. Rows that join together are padded together."""

    exact = False  # logits differ with the company, by rounding

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._groups: list[tuple[int, State]] = []  # how many rows, and their state

    def join(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the prompts of new rows; give the logits after each, [rows, vocabulary]."""
        logits, state = prefill(self.model, prompts)
        self._groups.append((len(prompts), state))
        return logits

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append a token to each row; give the logits after it, [rows, vocabulary]."""
        rest = iter(tokens)
        return torch.cat([step(self.model, state, list(islice(rest, rows))) for rows, state in self._groups])

    def keep(self, stays: Sequence[bool]) -> list[int]:
        """Remove the rows that do not stay; give the old numbers of those that do, in their new order."""
        order: list[int] = []
        groups, start = [], 0
        for rows, state in self._groups:
            kept = fill_gaps(stays[start : start + rows])
            if kept and len(kept) < rows:
                state.select(kept)
            groups += [(len(kept), state)] if kept else []
            order += [start + row for row in kept]
            start += rows
        self._groups = groups
        return order


class Apart(Padded):
    """A running batch of a model that counts padding as positions: each row has a cache of its own."""

    def join(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the prompts of new rows; give the logits after each, [rows, vocabulary]."""
        return torch.cat([super(Apart, self).join([prompt]) for prompt in prompts])


class Recomputed(Padded):
    """A running batch of a model that has no cache, or one of its own: every token reads its row again."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self._rows: list[list[int]] = []

    def join(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the prompts of new rows; give the logits after each, [rows, vocabulary]."""
        self._rows += map(list, prompts)
        return torch.stack([unbatched_logits(self.model, prompt) for prompt in prompts])

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append a token to each row; give the logits after it, [rows, vocabulary]."""
        self._rows = [[*row, token] for row, token in zip(self._rows, tokens, strict=True)]
        return torch.stack([unbatched_logits(self.model, row) for row in self._rows])

    def keep(self, stays: Sequence[bool]) -> list[int]:
        """Remove the rows that do not stay; give the old numbers of those that do, in their new order."""
        order = fill_gaps(stays)
        self._rows = [self._rows[old] for old in order]
        return order


@torch.inference_mode()
def prefill(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, State]:
    """Read the prompts; give the logits after each, [rows, vocabulary]."""
    rows, cache = len(prompts), new_cache(model)
    may_share = attends_to_all(model, cache) and takes(model, "position_ids")
    shared = shared_prefix(list(map(list, prompts))) if may_share else 0
    if shared:
        prefix = torch.tensor([prompts[0][:shared]], device=model.device)
        read(model, prefix, torch.arange(shared, device=model.device)[None], torch.ones_like(prefix), cache)
        cache.batch_repeat_interleave(rows)
    ids, real = (tensor.to(model.device) for tensor in pad_left([prompt[shared:] for prompt in prompts]))
    positions = (shared + real.cumsum(1) - 1).clamp(min=0)
    mask = torch.cat([real.new_ones(rows, shared), real], 1)
    logits = read(model, ids, positions, mask, cache)
    return logits, State(cache, mask, positions[:, -1] + 1)


@torch.inference_mode()
def step(model: PreTrainedModel, state: State, tokens: Sequence[int]) -> torch.Tensor:
    """Append one token to each row; give the logits after it, [rows, vocabulary]."""
    ids = torch.tensor(tokens, device=model.device)[:, None]
    state.mask = torch.cat([state.mask, state.mask.new_ones(len(tokens), 1)], 1)
    logits = forward(model, ids, state.positions[:, None], state.mask, state.cache)
    state.positions = state.positions + 1
    return logits


@torch.inference_mode()
def unbatched_logits(model: PreTrainedModel, tokens: Sequence[int]) -> torch.Tensor:
    """Return the logits after a sequence, [vocabulary], a function of nothing but its tokens: no cache, no padding."""
    ids = torch.tensor([tokens], device=model.device)
    return forward(model, ids, torch.arange(len(tokens), device=model.device)[None])[0]


def read(
    model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Put columns of tokens into the cache, some at a time; the mask covers the cache's columns and these."""
    rows, columns = ids.shape
    seen = mask.shape[1] - columns
    width = max(1, CHUNK_TOKENS // rows)
    for start in range(0, columns, width):
        chunk = slice(start, start + width)
        logits = forward(model, ids[:, chunk], positions[:, chunk], mask[:, : seen + start + width], cache)
    return logits


def forward(
    model: PreTrainedModel,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | None = None,
    cache: DynamicCache | None = None,
) -> torch.Tensor:
    """Run the model; give the logits after the last column, [rows, vocabulary] float32 on the CPU."""
    optional: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
    accepted = {name: value for name, value in optional.items() if takes(model, name)}
    past = "cache" if takes(model, "cache") else "past_key_values"  # the second before transformers 5.24
    with evaluating(model):
        output = model(input_ids=ids, attention_mask=mask, use_cache=cache is not None, **{past: cache}, **accepted)
    logits: torch.Tensor = output.logits[:, -1].float().cpu()
    return logits


def pad_left(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids and which are real, both [rows, columns]: [[1, 2], [3]] -> [[1, 2], [0, 3]], [[1, 1], [0, 1]]."""
    columns = max(map(len, rows))
    ids = torch.zeros(len(rows), columns, dtype=torch.long)
    real = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, columns - len(row) :] = torch.tensor(row)
        real[i, columns - len(row) :] = 1
    return ids, real


def shared_prefix(prompts: Sequence[list[int]]) -> int:
    """Count the tokens with which all prompts begin, leaving each at least one of its own; 0 if it is not worth it."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # in the order of a dictionary: what these share, all share
    equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    count = min(equal, min(map(len, prompts)) - 1)
    return count if count >= WORTH_SHARING else 0


@contextlib.contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Switch dropout off for a moment, so that an engine can be used in the middle of training."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()
