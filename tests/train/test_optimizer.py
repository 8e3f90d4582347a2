"""Masters in fp32 under a model in any precision: the same as torch's own AdamW, and nothing small is lost."""

from __future__ import annotations

import pytest
import torch

from heedful import kernels
from heedful.config import TrainConfig
from heedful.train import optimizer as module
from heedful.train.optimizer import MasterAdamW
from heedful.train.ranks import single_rank

SIZES = {"matrix": (40, 30), "vector": (30,), "unused": (5,)}


def parameters(seed: int = 0) -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(seed)
    return {name: torch.nn.Parameter(torch.randn(size)) for name, size in SIZES.items()}


def give_gradients(parameters: dict[str, torch.nn.Parameter], seed: int) -> None:
    torch.manual_seed(seed)
    for name in ("matrix", "vector"):
        parameters[name].grad = torch.randn(SIZES[name]).to(parameters[name].dtype)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("piece", [7, 2**20])
@pytest.mark.parametrize("everywhere", [False, True])
def test_it_is_torchs_adamw(piece: int, everywhere: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(kernels, "compiled", lambda: None)
    monkeypatch.setattr(module, "PIECE", piece)
    ours, theirs = parameters(), parameters()
    config = TrainConfig(weight_decay=0.1, decay_vectors=everywhere)
    optimizer = MasterAdamW(ours, config, torch.float32)
    groups = [
        {"params": [theirs["matrix"]], "weight_decay": 0.1},
        {"params": [theirs["vector"], theirs["unused"]], "weight_decay": 0.1 if everywhere else 0.0},
    ]
    oracle = torch.optim.AdamW(groups, lr=0.01, fused=True)
    for seed in range(5):
        give_gradients(ours, seed)
        give_gradients(theirs, seed)
        norm = torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        assert optimizer.norm() == pytest.approx(float(norm), rel=1e-6)
        optimizer.step(0.01, min(1.0, 1.0 / (optimizer.norm() + 1e-6)))
        oracle.step()
        optimizer.clear()
        oracle.zero_grad()
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.data, theirs[name].data, rtol=1e-6, atol=1e-6)
    assert {name.partition(".")[0] for name in optimizer.state()} == {"matrix", "vector"}


@pytest.mark.parametrize("compiled", [False, True])
def test_updates_that_bf16_cannot_hold_add_up(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand steps of 1e-5 on weights near 1: each is lost in bf16, together they are 0.01."""
    if not compiled:
        monkeypatch.setattr(kernels, "compiled", lambda: None)
    weights = {"w": torch.nn.Parameter(torch.ones(8, 8))}
    optimizer = MasterAdamW(weights, TrainConfig(), torch.bfloat16)
    for _ in range(1000):
        weights["w"].grad = torch.ones(8, 8, dtype=torch.bfloat16)
        optimizer.step(1e-5)
        optimizer.clear()
    assert optimizer.masters["w"].mean() == pytest.approx(0.99, abs=1e-4)
    assert weights["w"].dtype == torch.bfloat16
    assert torch.equal(weights["w"].data, optimizer.masters["w"].bfloat16())


def test_gradients_of_many_forwards_are_summed_in_fp32() -> None:
    """256 gradients of 1 are 256 in bf16 too, but the 257th would be lost there."""
    weights = {"w": torch.nn.Parameter(torch.zeros(4))}
    optimizer = MasterAdamW(weights, TrainConfig(), torch.bfloat16)
    for _ in range(257):
        weights["w"].grad = torch.ones(4, dtype=torch.bfloat16)
        optimizer.fold()
    assert optimizer.norm() == pytest.approx(2 * 257)
    optimizer.clear()
    assert optimizer.norm() == 0


def test_saved_moments_continue() -> None:
    first, second = parameters(), parameters(1)
    a = MasterAdamW(first, TrainConfig(), torch.bfloat16)
    give_gradients(first, 0)
    a.step(0.01)
    a.clear()
    b = MasterAdamW(second, TrainConfig(), torch.bfloat16)
    b.load(a.masters, a.state(), single_rank().scatter_into)
    for optimizer, weights in ((a, first), (b, second)):
        give_gradients(weights, 1)
        optimizer.step(0.01)
    for name in SIZES:
        assert torch.equal(a.masters[name], b.masters[name])
        assert torch.equal(first[name].data, second[name].data)
    assert a.state().keys() == b.state().keys()
