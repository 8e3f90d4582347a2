"""A layer's compiled operations against autograd's gradients, and the modules that are given them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.models import tiny_model
from tests.train.test_loss import collator, loss_and_gradient, rows_that_share
from torch import nn
from transformers.activations import NewGELUActivation

from heedful import kernels
from heedful.train.layers import Gate, Norm, fuse_layers

compiler = pytest.mark.skipif(kernels.compiled() is None, reason="there is no C compiler")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def drawn(*shape: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def assert_near(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> None:
    assert ours is not None and theirs is not None
    assert float((ours.detach().double() - theirs.detach()).norm() / theirs.detach().norm()) < TOLERANCE[ours.dtype]


@compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [8, 40, 576])
def test_norm_and_gate_have_autograd_s_gradients(dtype: torch.dtype, width: int) -> None:
    x, other, weight = (drawn(*shape, dtype=dtype, seed=i) for i, shape in enumerate([(2, 37, width)] * 2 + [(width,)]))
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, other, weight)]
    pairs = [
        (Norm.apply(x, weight, 1e-3), F.rms_norm(exact[0], (width,), exact[2], 1e-3)),
        (Gate.apply(x, other), F.silu(exact[0]) * exact[1]),
    ]
    for ours, theirs in pairs:
        for tensor in (x, other, weight, *exact):
            tensor.grad = None
        above = torch.randn(2, width, 37).to(dtype).transpose(1, 2)  # not contiguous
        ours.backward(above)
        theirs.backward(above.double())
        assert_near(ours, theirs)
        for tensor, reference in zip((x, other, weight), exact, strict=True):
            if reference.grad is not None:
                assert_near(tensor.grad, reference.grad)


@compiler
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2", "mistral"])
def test_a_compiled_model_has_the_loss_and_the_gradient_of_its_own(kind: str) -> None:
    model, rows = tiny_model(kind), rows_that_share(1)
    expected = loss_and_gradient(model, rows, collator("padded"))
    fuse_layers(model)
    given = [type(module).__name__ for module in model.modules() if "forward" in vars(module)]
    norms, gates = sum("Norm" in name for name in given), sum("MLP" in name for name in given)
    # qwen3 normalises queries and keys as well
    assert (norms, gates) == {"gpt2": (0, 0), "qwen3": (9, 2)}.get(kind, (5, 2))
    assert not any(type(module) is NewGELUActivation for module in model.modules())
    loss, gradient = loss_and_gradient(model, rows, collator("padded"))
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert float((gradient - expected[1]).norm() / expected[1].norm()) < 1e-5


@compiler
def test_a_module_that_computes_something_else_is_left_alone() -> None:
    class OddRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.ones(8)), 1e-5

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.clamp(-1, 1) * self.weight

    module = OddRMSNorm()
    fuse_layers(module)
    assert "forward" not in vars(module)


def test_experts_that_share_a_matrix_are_left_alone() -> None:
    model = tiny_model("inkling_text")
    fuse_layers(model)
    assert torch.isfinite(model(torch.arange(9)[None]).logits).all()


def test_without_a_compiler_only_the_kernel_that_torch_has_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    model, rows = tiny_model("llama"), rows_that_share(1)
    expected = loss_and_gradient(model, rows, collator("padded"))
    fuse_layers(model)
    assert not any("forward" in vars(module) for module in model.modules())
    assert loss_and_gradient(model, rows, collator("padded"))[0] == pytest.approx(expected[0], rel=1e-6)
