"""Logits -> the next token, and whether the choice stands above the noise of arithmetic.

Sampling is the arg max of `logits + temperature * Gumbel noise` (the Gumbel-max trick: the same distribution as
softmax(logits / temperature)), so greedy is temperature 0 and there is one rule. The noise is a function of (seed,
step) alone, never of a global generator or of the other rows.

Matrix products round differently for different batch shapes, by less than half a `tolerance`. A choice is *clear* if no
such difference could change it; the engine decides the others on logits that depend on nothing but the row's tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from heedful.errors import UsageError
from heedful.records import Sampling


def check(sampling: Sampling) -> Sampling:
    """Refuse impossible settings, all at once."""
    wrong = {
        f"max_tokens={sampling.max_tokens} (at least 1)": sampling.max_tokens < 1,
        f"temperature={sampling.temperature} (at least 0)": not 0 <= sampling.temperature < float("inf"),
        f"top_k={sampling.top_k} (at least 0)": sampling.top_k < 0,
        f"top_p={sampling.top_p} (above 0, at most 1)": not 0 < sampling.top_p <= 1,
        f"repetition_penalty={sampling.repetition_penalty} (above 0)": not sampling.repetition_penalty > 0,
    }
    if any(wrong.values()):
        raise UsageError(
            "Impossible sampling: " + ", ".join(text for text, is_wrong in wrong.items() if is_wrong) + "."
        )
    return sampling


def pick(
    logits: torch.Tensor, tokens: Sequence[int], answered: int, sampling: Sampling, tolerance: float = 0.0
) -> tuple[int, bool]:
    """Choose the token after `tokens`, of which `answered` are answer; say whether the choice is clear."""
    penalty = sampling.repetition_penalty
    tolerance *= max(penalty, 1 / penalty)  # the penalty stretches logits, and their noise with them
    scores = penalise(logits, tokens, penalty)
    inside = None
    if sampling.temperature > 0:
        maybe, inside = restrict(scores, sampling, tolerance)
        noise = gumbel(sampling.seed, answered, len(scores))
        scores = (scores + sampling.temperature * noise).masked_fill(~maybe, -torch.inf)
    (best, second), (token, _) = (part.tolist() for part in scores.topk(2))
    clear = best - second > tolerance and (inside is None or bool(inside[token]))
    return token, clear


def penalise(logits: torch.Tensor, tokens: Sequence[int], penalty: float) -> torch.Tensor:
    """Make every token that stands in `tokens` less likely, as CTRL (arXiv:1909.05858) and transformers define it."""
    if penalty == 1:
        return logits
    seen = torch.tensor(sorted(set(tokens)))
    old = logits[seen]
    return logits.index_put((seen,), torch.where(old < 0, old * penalty, old / penalty))


def restrict(logits: torch.Tensor, sampling: Sampling, tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the tokens that may be sampled, and those of them that no noise could leave out; both [vocabulary] bool."""
    maybe = inside = torch.ones_like(logits, dtype=torch.bool)
    if 0 < sampling.top_k < len(logits):
        *_, last_in, first_out = logits.topk(sampling.top_k + 1).values
        maybe, inside = logits >= last_in - tolerance, logits > first_out + tolerance
    if sampling.top_p < 1:
        scaled = (logits / sampling.temperature).masked_fill(~maybe, -torch.inf)
        low, high = mass_above(scaled, tolerance / sampling.temperature)
        doubtful = float(scaled.softmax(0)[maybe & ~inside].sum())  # whether these count is open, and so is their mass
        slack = tolerance / sampling.temperature + doubtful if tolerance else 0.0
        maybe, inside = maybe & (low - slack < sampling.top_p), inside & (high + slack < sampling.top_p)
    return maybe, inside


def mass_above(logits: torch.Tensor, tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the least and the most probability that the tokens ranked above each token can have together.

    Worked example: probabilities 0.5, 0.3, 0.2 and no tolerance give 0.0, 0.5, 0.8 for both.
    """
    ranked, order = logits.sort(descending=True)
    probabilities = ranked.softmax(0)
    below = torch.cat([probabilities.new_zeros(1), probabilities.cumsum(0)])  # below[n]: the mass of the first n
    surely = torch.searchsorted(-ranked, -(ranked + tolerance), right=False)  # how many rank higher in any case
    possibly = torch.searchsorted(-ranked, -(ranked - tolerance), right=True)  # how many might, itself included
    low, high = torch.empty_like(logits), torch.empty_like(logits)
    low[order], high[order] = below[surely], below[possibly] - probabilities
    return low, high


def gumbel(seed: int, step: int, size: int) -> torch.Tensor:
    """Draw standard Gumbel noise as a function of (seed, step); in float64, since the tail decides."""
    digest = hashlib.blake2b(f"{seed}:{step}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))
    return -torch.empty(size, dtype=torch.float64).exponential_(generator=generator).log().float()
