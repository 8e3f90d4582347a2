"""Layers that are computed a second time in the backward pass: the same loss and gradient, with less kept."""

from __future__ import annotations

import pytest
import torch
from tests.models import tiny_model
from tests.train.test_loss import collator, rows_that_share

from heedful.config import TrainConfig
from heedful.errors import ModelError
from heedful.model.adapters import adapt
from heedful.train.attention import TREE
from heedful.train.learner import Learner


def learned(kind: str, method: str, attention: str, again: bool) -> tuple[float, dict[str, torch.Tensor], int]:
    """Return a group's loss, its gradient, and how often a layer was computed."""
    config = TrainConfig(precision="fp32", method=method, activation_checkpointing=again)  # type: ignore[arg-type]
    model = tiny_model(kind)
    model.set_attn_implementation(attention)
    calls = []
    layer = next(module for module in model.modules() if type(module).__name__ in model._no_split_modules)
    attention_of = next(child for name, child in layer.named_children() if "att" in name)
    attention_of.register_forward_pre_hook(lambda module, given: calls.append(1))
    learner = Learner(adapt(model, config) if method == "lora" else model, collator("tree", 0.0, 60), config, steps=4)
    loss, _ = learner.accumulate(rows_that_share(4), 0)
    return loss, dict(learner.optimizer.gradients()), len(calls)


@pytest.mark.parametrize("attention", ["sdpa", TREE])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_is_computed_again_gives_the_same_gradient(kind: str, method: str, attention: str) -> None:
    loss, gradient, calls = learned(kind, method, attention, again=False)
    again_loss, again, again_calls = learned(kind, method, attention, again=True)
    assert again_calls == 2 * calls > 0
    assert again_loss == pytest.approx(loss, rel=1e-6)
    assert again.keys() == gradient.keys()
    for name, one in gradient.items():
        torch.testing.assert_close(again[name], one, rtol=1e-5, atol=1e-7, msg=name)


def test_a_model_that_cannot_is_refused() -> None:
    model = tiny_model("llama")
    model.supports_gradient_checkpointing = False
    with pytest.raises(ModelError, match="llama models cannot compute their layers a second time"):
        Learner(model, collator("tree"), TrainConfig(precision="fp32", activation_checkpointing=True), steps=1)
