"""Families of models that are unlike most: each is trained exactly, or refused for what is true of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful.errors import ModelError
from heedful.model import load
from heedful.train.probe import tree_is_exact
from tests.models import folder_of, tiny_model


def test_a_hybrid_family_s_model_of_attention_alone_is_a_transformer(tmp_path: Path) -> None:
    """Granite 4.0 exists with and without Mamba."""
    model = load(str(folder_of(tmp_path / "attention", "granitemoehybrid"))).model
    assert tree_is_exact(model, 60)
    mixed = folder_of(tmp_path / "mixed", "granitemoehybrid", layer_types=["linear_attention", "full_attention"])
    with pytest.raises(
        ModelError, match="granitemoehybrid models of this configuration carry more from token to token"
    ):
        load(str(mixed))


def test_a_model_that_asserts_it_gets_no_tree_is_trained_in_rows() -> None:
    assert not tree_is_exact(tiny_model("xlm"), 60)


def test_a_model_that_learns_only_from_rows_of_some_lengths_is_refused(tmp_path: Path) -> None:
    layers = {"attn_layers": ["local", "local"], "axial_pos_embds": False, "is_decoder": True, "hidden_size": 32}
    heads = {"attention_head_size": 8, "num_attention_heads": 4, "feed_forward_size": 64}
    with pytest.raises(ModelError, match="reformer models learn only from rows whose length is a multiple"):
        load(str(folder_of(tmp_path, "reformer", **layers, **heads)))


@pytest.mark.parametrize(
    ("kind", "changes", "advised"),
    [("bert", {}, True), ("roberta", {"is_decoder": True, "pad_token_id": 1}, False), ("prophetnet", {}, False)],
)
def test_to_be_a_decoder_is_advised_where_it_may_help(
    tmp_path: Path, kind: str, changes: dict[str, Any], advised: bool
) -> None:
    with pytest.raises(ModelError) as caught:
        load(str(folder_of(tmp_path, kind, **changes)))
    assert ("is_decoder" in caught.value.fix) == advised
