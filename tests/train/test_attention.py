"""Attention over a tree against torch's own, forward and backward, in blocks and with windows along the path."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from tests.models import SPARSE, tiny_model
from tests.train.test_loss import rows_that_share
from transformers import AttentionInterface

from heedful import kernels
from heedful.encode.tree import build_tree
from heedful.train import attention
from heedful.train.attention import TREE, tree_attention
from heedful.train.probe import attend_by_tree, tree_is_exact


def tree_of_rows() -> tuple[torch.Tensor, torch.Tensor]:
    rows = rows_that_share(0)
    tree = build_tree(rows, [row.supervised.astype("float32") for row in rows])
    return torch.from_numpy(tree.visibility())[None, None], torch.from_numpy(tree.depths)[None]


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True).transpose(1, 2)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("queries", [7, 64, 10_000])
@pytest.mark.parametrize("window", [None, 3, 10_000])
@pytest.mark.parametrize("key_heads", [1, 2, 6])
def test_it_is_torchs_attention(
    queries: int, window: int | None, key_heads: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(kernels, "compiled", lambda: None)
    monkeypatch.setattr(attention, "QUERIES", queries)
    mask, depths = tree_of_rows()
    nodes = mask.shape[-1]
    torch.manual_seed(0)
    inputs = [torch.randn(1, heads, nodes, 8, requires_grad=True) for heads in (6, key_heads, key_heads)]
    again = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    near = depths[0][:, None] - depths[0][None, :] < (window or nodes)
    ours, _ = tree_attention(torch.nn.Module(), *inputs, mask, sliding_window=window, position_ids=depths)
    theirs = reference(*again, mask & near)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(theirs)
    ours.backward(upstream)
    theirs.backward(upstream)
    for tensor, other in zip(inputs, again, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
def test_dropout_changes_nothing_else(window: int | None) -> None:
    """It is torch that drops, and it shall see the same window and refuse the same models."""
    mask, depths = tree_of_rows()
    module = torch.nn.Module()
    module.num_key_value_groups = 3
    query, key, value = (torch.randn(1, heads, mask.shape[-1], 8) for heads in (6, 2, 2))
    given = {"sliding_window": window, "position_ids": depths}
    dropped, _ = tree_attention(module, query, key, value, mask, dropout=1e-12, **given)
    whole, _ = tree_attention(module, query, key, value, mask, **given)
    torch.testing.assert_close(dropped, whole, rtol=1e-5, atol=1e-5)
    with pytest.raises(NotImplementedError, match="capped"):
        tree_attention(module, query, key, value, mask, dropout=0.1, softcap=30.0)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2", "gpt_neox", "mistral"])
def test_models_attend_by_it(kind: str) -> None:
    """A window shorter than the path is no obstacle any more."""
    model = tiny_model(kind)
    assert attend_by_tree(model, 60)
    assert tree_is_exact(model, 60)


def test_what_sparse_attention_leaves_out_is_left_out_of_a_tree_too() -> None:
    """Under an attention that it does not know, the model masks nothing: neither in a tree nor in rows."""
    model = tiny_model(SPARSE)
    usual = model.config._attn_implementation
    assert not attend_by_tree(model, 60)
    assert model.config._attn_implementation == usual


def test_the_rows_that_a_tree_is_held_against_have_the_models_own_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*inputs: torch.Tensor, indices: torch.Tensor, **options: object) -> object:
        return tree_attention(*inputs, **options)

    monkeypatch.setitem(AttentionInterface._global_mapping, TREE, forgetful)
    assert not attend_by_tree(tiny_model(SPARSE), 60)


def test_a_window_of_places_instead_of_depths_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_place(mask: torch.Tensor, dtype: torch.dtype, window: int | None, depths: object) -> torch.Tensor:
        return right(mask, dtype, window, torch.arange(mask.shape[-1])[None])

    right = attention._bias.__wrapped__
    monkeypatch.setattr(attention, "_bias", lru_cache(by_place))
    assert not attend_by_tree(tiny_model("mistral"), 60)


def test_what_is_no_tree_goes_to_torchs_kernel() -> None:
    query, key = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8)
    ours, _ = tree_attention(torch.nn.Module(), query, key, key, None)
    theirs = torch.nn.functional.scaled_dot_product_attention(query, key, key, is_causal=True)
    torch.testing.assert_close(ours, theirs.transpose(1, 2))
    with pytest.raises(NotImplementedError, match="capped"):
        tree_attention(torch.nn.Module(), query[:1], key[:1], key[:1], torch.ones(1, 1, 5, 5) > 0, softcap=30.0)
