"""Logits -> the next token, and whether the choice stands above the noise of arithmetic.

Sampling is the arg max of `logits + temperature * Gumbel noise` (the Gumbel-max trick: the same distribution as
softmax(logits / temperature)), so greedy is temperature 0 and there is one rule. The noise is a function of (seed,
step) alone, never of a global generator or of the other rows.

Matrix products round differently for different batch shapes, by less than half a `tolerance`. A choice is *clear* if no
such difference could change it; the engine decides the others on logits that depend on nothing but the row's tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from heedful.records import Choice, Sampling


def pick(
    logits: torch.Tensor, tokens: Sequence[int], answered: int, sampling: Sampling, tolerance: float = 0.0
) -> tuple[int, bool]:
    """Choose the token after `tokens`, of which `answered` are answer; say whether the choice is clear."""
    penalty = sampling.repetition_penalty
    tolerance *= max(penalty, 1 / penalty)  # the penalty stretches logits, and their noise with them
    scores = adjust(penalise(logits, tokens, penalty), tokens[len(tokens) - answered :], sampling)
    if sampling.temperature == 0:
        ids = inside = None
    else:
        ids, inside = candidates(scores, sampling, tolerance)
        scores = scores[ids] + sampling.temperature * gumbel(sampling.seed, answered, len(scores), ids)
    (best, *second), (at, *_) = (part.tolist() for part in scores.topk(min(2, len(scores))))
    clear = all(best - other > tolerance for other in second) and (inside is None or bool(inside[at]))
    return at if ids is None else int(ids[at]), clear and best == best  # NaN is never clear


def seeded_per_row(sampling: Sampling, count: int) -> list[Sampling]:
    """Give each of many rows noise of its own, by its number: with one seed for all, every row would draw alike."""

    def seed(row: int) -> int:
        return int.from_bytes(hashlib.blake2b(f"{sampling.seed} of row {row}".encode(), digest_size=6).digest(), "big")

    return [replace(sampling, seed=seed(row)) for row in range(count)]


def seeded_per_prompt(sampling: Sampling, count: int) -> list[Sampling]:
    """Give each of several prompts noise of its own; a single one draws from the seed itself."""
    return [sampling] if count == 1 else seeded_per_row(sampling, count)


def penalise(logits: torch.Tensor, tokens: Sequence[int], penalty: float) -> torch.Tensor:
    """Make every token that stands in `tokens` less likely, as CTRL (arXiv:1909.05858) and transformers define it."""
    if penalty == 1:
        return logits
    seen = torch.tensor(sorted(set(tokens)))
    old = logits[seen]
    return logits.index_put((seen,), torch.where(old < 0, old * penalty, old / penalty))


def adjust(logits: torch.Tensor, answer: Sequence[int], sampling: Sampling) -> torch.Tensor:
    """Take the presence and frequency penalties off the answer's tokens and add the biases, as OpenAI defines them."""
    if answer and (sampling.presence_penalty or sampling.frequency_penalty):
        ids, counts = torch.unique(torch.tensor(answer), return_counts=True)
        logits = logits.index_add(0, ids, -(sampling.presence_penalty + sampling.frequency_penalty * counts).float())
    if sampling.logit_bias:
        biased, values = zip(*sampling.logit_bias, strict=True)
        logits = logits.index_add(0, torch.tensor(biased), torch.tensor(values, dtype=torch.float32))
    return logits


def is_arg_max(sampling: Sampling) -> bool:
    """Say whether the likeliest token is taken, whatever came before."""
    neutral = (sampling.temperature, sampling.presence_penalty, sampling.frequency_penalty) == (0, 0, 0)
    return neutral and sampling.repetition_penalty == 1 and not sampling.logit_bias


def recorded(logits: torch.Tensor, token: int, alternatives: int, start: int) -> Choice:
    """Note a choice with its log-probability and those of the likeliest tokens; its text begins at `start`."""
    logprobs = logits.log_softmax(0)
    values, ids = logprobs.topk(min(alternatives, len(logits)))
    return Choice(start, token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def candidates(logits: torch.Tensor, sampling: Sampling, tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids that may be sampled, and which of them no noise could leave out; both [candidates]."""
    maybe = inside = torch.ones_like(logits, dtype=torch.bool)
    if 0 < sampling.top_k < len(logits):
        *_, last_in, first_out = logits.topk(sampling.top_k + 1).values
        maybe, inside = logits >= last_in - tolerance, logits > first_out + tolerance
    if sampling.top_p < 1:
        ids, inside = nucleus(logits, (maybe, inside), sampling, min(tolerance / sampling.temperature, 30.0))
    else:
        ids = maybe.nonzero()[:, 0]
        inside = inside[ids]
    if sampling.min_p:
        above = logits[ids] - logits.max() - sampling.temperature * math.log(sampling.min_p)
        kept = above >= -tolerance
        ids, inside = ids[kept], (inside & (above > tolerance))[kept]
    return ids, inside


def nucleus(
    logits: torch.Tensor, top_k: tuple[torch.Tensor, torch.Tensor], sampling: Sampling, noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Narrow what top_k left to the likeliest tokens that reach `top_p`; `noise` is the tolerance in scaled logits."""
    maybe, inside = top_k
    probabilities = (logits / sampling.temperature).masked_fill(~maybe, -torch.inf).softmax(0)
    doubtful = float(probabilities[maybe & ~inside].sum())  # whether these count is open, and so is their mass
    slack = noise + doubtful if noise else 0.0
    # All tokens below (1 - p) / n have no more than 1 - p together: those above reach p, so only they need sorting.
    floor = (1 - sampling.top_p - 2 * slack) / len(logits) * math.exp(-noise)
    floor = min(floor, float(probabilities.max()))  # which rounding may have put below it
    ids = (maybe & (probabilities >= floor)).nonzero()[:, 0]
    low, high = mass_above(probabilities[ids], math.exp(noise))
    # A tiny top_p would round to 0 in float32, and no token would be kept.
    top_p = max(sampling.top_p, torch.finfo(torch.float32).tiny)
    kept = low - slack < top_p
    return ids[kept], (inside[ids] & (high + slack < top_p))[kept]


def mass_above(probabilities: torch.Tensor, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least and the most mass that the tokens likelier than each can have, if ratios are known to `ratio`.

    Worked example: 0.3, 0.5, 0.2 and a ratio of 1 give 0.5, 0.0, 0.8 for both; a ratio of 2 gives 0.0, 0.0, 0.5 and
    0.7, 0.3, 0.8.
    """
    ranked, order = probabilities.sort(descending=True)
    first = torch.cat([ranked.new_zeros(1), ranked.cumsum(0)])  # first[n]: the mass of the n likeliest
    surely = torch.searchsorted(-ranked, -ranked * ratio)  # how many are likelier in any case
    possibly = torch.searchsorted(-ranked, -ranked / ratio, right=True)  # how many might be, itself included
    low, high = torch.empty_like(ranked), torch.empty_like(ranked)
    low[order], high[order] = first[surely], first[possibly] - ranked
    return low, high


def gumbel(seed: int, step: int, size: int, ids: torch.Tensor) -> torch.Tensor:
    """Return these tokens' standard Gumbel noise, a function of (seed, step); float64, since the tail decides."""
    digest = hashlib.blake2b(f"{seed}:{step}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))
    uniform = torch.rand(size, dtype=torch.float64, generator=generator)[ids]
    return -(-uniform.log()).log().float()
