"""What rounding explains passes in each precision, and what it does not is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from heedful.errors import ExportError
from heedful.export import verify
from heedful.export.reference import Reference, agreement

TOKENS = 200  # of the one answer, of which each is token 0
ROUNDED = [kind for kind, bounds in verify.BOUNDS.items() if bounds.tie is not None]


def judged(kind: str, ours: torch.Tensor, theirs: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Compare an export's logits with the run's."""
    monkeypatch.setattr(verify, "scores", lambda model, reference: [theirs])
    return verify.answers(Reference([], [[1]], [[0] * TOKENS], [ours]), None, kind)  # type: ignore[arg-type]


def preferring(token: int, margin: float) -> torch.Tensor:
    """Return logits that are sure of token 0, but for a place at which `token` is ahead by so much."""
    logits = torch.tensor([20.0, 0.0]).repeat(TOKENS, 1)
    logits[TOKENS // 2] = torch.tensor([margin, 0.0] if token == 0 else [0.0, margin])
    return logits


def test_every_precision_that_rounds_little_has_its_near_tie() -> None:
    assert ROUNDED == ["f32", "f16", "bf16"]


@pytest.mark.parametrize("kind", ROUNDED)
def test_one_token_that_rounding_cannot_turn_is_refused_though_the_mean_is_small(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tie = verify.BOUNDS[kind].tie or 0.0
    assert tie <= 0.5  # logits: half of a token's odds
    near = judged(kind, preferring(0, tie / 2), preferring(1, tie / 2), monkeypatch)
    assert (near["answers"]["near_ties"], near["answers"]["different"]) == (1, 0)
    with pytest.raises(ExportError, match="1 of 1 answers differ"):
        judged(kind, preferring(0, 2 * tie), preferring(1, 2 * tie), monkeypatch)


def test_an_answer_that_ends_early_is_another_one() -> None:
    reference = Reference([], [[1]], [[0] * TOKENS], [preferring(0, 1.0)])
    answers = [agreement(reference, [[0] * tokens], tie=0.5) for tokens in (TOKENS, TOKENS - 1)]
    assert [(found.equal, found.different) for found in answers] == [(1, 0), (0, 1)]


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_other_odds_are_refused_though_each_token_is_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.73 became 0.88: 0.08 nats a token."""
    ours = torch.tensor([1.0, 0.0]).repeat(TOKENS, 1)
    with pytest.raises(ExportError, match=r"0 of 1 answers differ, 0\.08"):
        judged(kind, ours, 2 * ours, monkeypatch)


@pytest.mark.parametrize("kind", verify.BOUNDS)
def test_an_export_that_computes_no_numbers_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = torch.tensor([1.0, 0.0]).repeat(TOKENS, 1)
    with pytest.raises(ExportError, match="nan nats"):
        judged(kind, ours, torch.full_like(ours, torch.nan), monkeypatch)
