"""The rule by which a token is chosen, against straightforward references."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor
from transformers import MinPLogitsWarper as MinP
from transformers import TemperatureLogitsWarper as Temperature
from transformers import TopKLogitsWarper as TopK
from transformers import TopPLogitsWarper as TopP

from heedful.errors import UsageError
from heedful.generate.sampling import adjust, candidates, gumbel, mass_above, penalise, pick
from heedful.records import COLDEST, LEAST_PENALTY, Sampling

LOGITS = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.6},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.4, "top_p": 0.7},
        {"temperature": 0.9, "top_k": 12, "top_p": 0.8},
        {"temperature": 1.2, "top_k": 7, "repetition_penalty": 1.5},
        {"temperature": 1.3, "min_p": 0.1},
        {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_tokens_are_drawn_with_the_probabilities_of_transformers(settings: dict[str, float]) -> None:
    tokens = [1, 4, 4, 9]
    sampling = Sampling(**settings)  # type: ignore[arg-type]
    processors = LogitsProcessorList([Temperature(sampling.temperature)])
    if sampling.repetition_penalty != 1:
        processors.insert(0, RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.top_k:
        processors.append(TopK(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopP(sampling.top_p))
    if sampling.min_p:
        processors.append(MinP(sampling.min_p))
    expected = processors(torch.tensor([tokens]), LOGITS[None].clone())[0].softmax(0)
    draws = [pick(LOGITS, tokens, step, sampling)[0] for step in range(4000)]
    found = torch.bincount(torch.tensor(draws), minlength=40) / len(draws)
    assert not found[expected == 0].any()
    assert float((found - expected).abs().sum() / 2) < 0.06  # total variation; about 0.035 by chance


@pytest.mark.parametrize("penalty", [1.0, 1.3, 0.7])
def test_penalty_is_transformers_own(penalty: float) -> None:
    tokens = [3, 3, 8, 20]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([tokens]), LOGITS[None].clone())[0]
    before = LOGITS.clone()
    torch.testing.assert_close(penalise(LOGITS, tokens, penalty), expected)
    assert torch.equal(LOGITS, before)


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": 1e-38},
        {"temperature": float("nan")},
        {"repetition_penalty": 1e-39},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
    ],
)
def test_what_would_overflow_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Impossible sampling"):
        Sampling(**setting)  # type: ignore[arg-type]


def test_the_least_that_is_taken_does_not_overflow() -> None:
    logits = torch.linspace(-30, 30, 259)
    sampling = Sampling(temperature=COLDEST, top_p=0.9, repetition_penalty=LEAST_PENALTY)
    assert pick(logits, [3, 200], 1, sampling)[0] == 200


def test_noise_is_a_function_of_seed_and_step() -> None:
    ids = torch.arange(1000)
    assert torch.equal(gumbel(1, 2, 1000, ids), gumbel(1, 2, 1000, ids))
    assert torch.equal(gumbel(1, 2, 1000, ids[7:9]), gumbel(1, 2, 1000, ids)[7:9])
    assert not torch.equal(gumbel(1, 2, 1000, ids), gumbel(2, 1, 1000, ids))
    many = torch.cat([gumbel(0, step, 1000, ids) for step in range(100)])
    assert float(many.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(many.var()) == pytest.approx(1.6449, abs=0.05)


def test_a_near_tie_is_not_clear() -> None:
    logits = torch.tensor([0.0, 2.0, 2.0005, -1.0])
    assert pick(logits, [], 0, Sampling(), 1e-3) == (2, False)
    assert pick(logits, [], 0, Sampling(), 1e-4) == (2, True)
    assert pick(logits * 100, [], 0, Sampling(), 1e-3) == (2, True)


def test_the_penalty_stretches_the_noise() -> None:
    logits = torch.tensor([-3.0, -2.9, -9.0])
    assert pick(logits, [0, 1], 0, Sampling(repetition_penalty=2.0), 0.15) == (1, False)  # margin 0.2, noise up to 0.3


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1, top_k=6),
        Sampling(temperature=0.8, top_p=0.8),
        Sampling(temperature=1.3, top_k=9, top_p=0.85, repetition_penalty=1.3),
    ],
)
def test_a_clear_choice_survives_any_noise_below_half_the_tolerance(sampling: Sampling) -> None:
    """The claim on which batch-independence rests, filter borders included."""
    generator = torch.Generator().manual_seed(0)
    clear_choices = 0
    for step in range(300):
        logits = torch.randn(40, generator=generator) * 2
        token, clear = pick(logits, [1, 2], step, sampling, 0.2)
        clear_choices += clear
        for _ in range(5 * clear):
            noise = (torch.rand(40, generator=generator) - 0.5) * 0.199
            assert pick(logits + noise, [1, 2], step, sampling)[0] == token
    assert clear_choices > 60


def test_the_border_of_a_filter_is_told_from_its_inside() -> None:
    logits = torch.tensor([3.0, 2.0, 1.0005, 1.0, -5.0])
    ids, inside = candidates(logits, Sampling(temperature=1, top_k=3), 1e-3)
    assert (ids.tolist(), inside.tolist()) == ([0, 1, 2, 3], [True, True, False, False])
    ids, inside = candidates(torch.tensor([0.5, 0.3, 0.2]).log(), Sampling(temperature=1, top_p=0.8), 1e-3)
    assert (ids.tolist(), inside.tolist()) == ([0, 1, 2], [True, True, False])
    ids, inside = candidates(torch.tensor([0.4, 0.3001, 0.2999]).log(), Sampling(temperature=1, top_p=0.6), 1e-2)
    assert (ids.tolist(), inside.tolist()) == ([0, 1, 2], [True, False, False])  # either may be the second


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 0.999])
def test_top_p_keeps_what_sorting_everything_keeps(top_p: float) -> None:
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(1)) * 3
    ids, _ = candidates(logits, Sampling(temperature=0.7, top_p=top_p), 0.0)
    expected = TopP(top_p)(torch.tensor([[0]]), logits[None] / 0.7)[0].isfinite().nonzero()[:, 0]
    assert abs(len(ids) - len(expected)) <= 2  # sums round differently
    assert set(ids.tolist()) >= set(expected.tolist()) or set(ids.tolist()) <= set(expected.tolist())


@pytest.mark.parametrize("logits", [LOGITS, torch.zeros(49), torch.arange(2e4) * 1e-11])
@pytest.mark.parametrize("top_p", [1e-30, 1e-46, 5e-324])
def test_the_likeliest_token_stays_however_small_top_p_is(logits: torch.Tensor, top_p: float) -> None:
    token, _ = pick(logits, [0], 0, Sampling(temperature=1, top_p=top_p))
    assert logits.max() - logits[token] < 1e-6  # closer than probabilities tell apart


def test_mass_above_as_documented() -> None:
    parts = torch.tensor([0.3, 0.5, 0.2])
    for ratio, low, high in [(1.0, [0.5, 0.0, 0.8], [0.5, 0.0, 0.8]), (2.0, [0.0, 0.0, 0.5], [0.7, 0.3, 0.8])]:
        torch.testing.assert_close(torch.stack(mass_above(parts, ratio)), torch.tensor([low, high]))


def test_presence_frequency_and_bias_move_logits_as_openai_defines_it() -> None:
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((2, 7.0), (3, -1.0)))
    moved = adjust(torch.zeros(6), [1, 4, 1, 1, 3], sampling)
    assert moved.tolist() == [0.0, -0.5 - 0.75, 7.0, -0.75 - 1.0, -0.75, 0.0]
    assert adjust(LOGITS, [], Sampling(presence_penalty=2)) is LOGITS


def test_penalties_look_at_the_answer_and_not_at_the_prompt() -> None:
    likeliest = int(LOGITS.argmax())
    sampling = Sampling(presence_penalty=2.0, frequency_penalty=2.0)
    assert pick(LOGITS, [likeliest] * 5, 0, sampling)[0] == likeliest
    assert pick(LOGITS, [likeliest] * 5, 5, sampling)[0] != likeliest
