"""Before a Decoder is used it must compute what the model computes, and each row as if it were alone; where there is
none, the model itself is asked what its rows may share.

All is asked of the actual weights on this machine: kernels differ between processors, and models between versions.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from heedful.generate.decoder import Decoder
from heedful.generate.forward import Apart, Padded, Recomputed, unbatched_logits
from heedful.generate.slots import UNIT, Slots
from heedful.model.causal import REFUSALS
from heedful.model.vocabulary import vocabulary_size

PROMPT = 3 * UNIT // 2  # tokens: more than one unit
COMPANY = 37  # rows: more than the blocks that kernels like
LONG = (300, 1000)  # tokens: at these lengths kernels sum columns block by block

NOISE, NARROW_NOISE = {torch.float32: 1e-3, torch.float64: 1e-3}, 5e-2  # shares of a row's spread, by type


def matches_model(decoder: Decoder, model: PreTrainedModel) -> bool:
    """Say whether read and written tokens give the model's own logits, up to the rounding of the narrower type."""
    return difference(decoder, model) < tolerance(decoder, model)  # NaN is not


def difference(decoder: Decoder, model: PreTrainedModel) -> float:
    """Return the largest distance from the model's logits after a few tokens, as a share of how far those spread."""
    tokens = _tokens(decoder, PROMPT + 2)
    slots = Slots(decoder)
    ours = [slots.join([tokens[:PROMPT]]), slots.step(tokens[PROMPT : PROMPT + 1]), slots.step(tokens[PROMPT + 1 :])]
    theirs = [unbatched_logits(model, tokens[: PROMPT + i]) for i in range(3)]
    errors = [(a[0] - b).norm() / (b - b.mean()).norm() for a, b in zip(ours, theirs, strict=True)]
    return float(torch.stack(errors).max())  # NaN, if there is any


def tolerance(decoder: Decoder, model: PreTrainedModel) -> float:
    """Return the difference that rounding explains.

    A layer rounds a few times, and its sums, in fp32, more often; errors of layers add up as a random walk does.
    """
    rounding = max(torch.finfo(dtype).eps for dtype in (decoder.dtype, model.dtype))
    return (12 * rounding + 64 * torch.finfo(torch.float32).eps) * math.sqrt(decoder.attention.layers)


def is_batch_invariant(decoder: Decoder) -> bool:
    """Say whether a few rows have the same logits, bit for bit, alone and in company that joins early or late.

    Only two layers are asked: the others do the same with other numbers, and every user would wait for them.
    """
    decoder = _with_few_layers(decoder)
    learned = decoder.position_embedding
    most = max(LONG) if learned is None else learned.num_embeddings - 3  # three tokens follow
    tokens = _tokens(decoder, max(LONG))[:most]
    prompts = [tokens[:5], tokens[: UNIT + 3], [*tokens[:UNIT], 0], tokens[: 5 * UNIT], tokens[1 : 1 + LONG[0]], tokens]
    prompts += [[i, *tokens[: i % (2 * UNIT)]] for i in range(COMPANY - len(prompts))]
    chosen = [0, 1, 2, 3, 4, 5, COMPANY - 1]
    by_itself = {i: _logits(decoder, [[prompts[i]]])[0] for i in chosen}
    for parts in ([prompts[:2], prompts[2:5]], [prompts[:1], prompts[1:]]):
        together = _logits(decoder, parts)
        if not all(torch.equal(together[i], by_itself[i]) for i in chosen if i < len(together)):
            return False
    return True


def batch_kind(model: PreTrainedModel) -> type[Padded]:
    """Return the quickest kind of batch in which two rows have the logits that they have alone."""
    return next((kind for kind in (Padded, Apart) if _is_exact(kind, model)), Recomputed)


def _is_exact(kind: type[Padded], model: PreTrainedModel) -> bool:
    """Compare two rows together with each alone: after the prompt, after one more token, after one of them has left."""
    tokens = torch.randint(vocabulary_size(model), (COMPANY,), generator=torch.Generator().manual_seed(0)).tolist()
    one, other = tokens[:3], tokens[4:15]
    try:
        batch = kind(model)
        joined, stepped = batch.join([one, other]), batch.step(tokens[20:22])
        batch.keep([False, True])
        left = batch.step(tokens[22:23])
    except REFUSALS:
        return False  # the model has no cache, or one of its own kind
    further = [*other, tokens[21]]
    read = [one, other, [*one, tokens[20]], further, [*further, tokens[22]]]
    alone = torch.stack([unbatched_logits(model, row) for row in read])
    spread = (alone - alone.mean(-1, keepdim=True)).norm(dim=-1)
    noise = (torch.cat([joined, stepped, left]) - alone).norm(dim=-1)
    return bool((noise <= NOISE.get(model.dtype, NARROW_NOISE) * spread).all())


def _with_few_layers(decoder: Decoder) -> Decoder:
    few = copy.copy(decoder)
    few.layers = [decoder.layers[0], decoder.layers[-1]]
    few.attention = replace(decoder.attention, layers=2)
    return few


def _logits(decoder: Decoder, parts: list[list[list[int]]]) -> list[torch.Tensor]:
    """Let rows join part by part, all taking a token after each; give each row's first logits, [3, vocabulary]."""
    slots = Slots(decoder)
    seen: list[list[torch.Tensor]] = []
    for part in [*parts, []]:
        if part:
            seen += [[logits] for logits in slots.join(part)]
        for row, logits in zip(seen, slots.step([len(row) for row in seen]), strict=True):
            row.append(logits)
    return [torch.stack(row[:3]) for row in seen]


def _tokens(decoder: Decoder, count: int) -> list[int]:
    """Draw tokens, always the same."""
    vocabulary = decoder.head.shape[0]
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(0)).tolist()
