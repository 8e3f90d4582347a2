"""Families of models that are unlike most: each is trained exactly, or refused for what is true of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import heedful
from heedful.config import TrainConfig
from heedful.errors import ModelError
from heedful.model import load
from heedful.train.learner import Learner
from heedful.train.probe import tree_is_exact
from tests.models import byte_tokenizer, folder_of, tiny_model
from tests.train.test_loss import collator, rows_that_share

DBRX = {"hidden_size": 32, "ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2}  # a part of its configuration


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


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_a_padding_s_embedding_of_zeros_spoils_no_update(tmp_path: Path, layout: str) -> None:
    """Gemma 3n divides by the length of what it reads, also at places that nobody sees."""
    tokenizer, rows = byte_tokenizer(), tmp_path / "rows.json"
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    model = tiny_model("gemma3n_text", pad_token_id=0, max_position_embeddings=512)
    assert not model.get_input_embeddings().weight[0].any()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows.write_text(
        json.dumps([{"instruction": f"Say {i}", "output": "Well, " * (3 * i % 9) + f"{i}."} for i in range(40)])
    )
    quick = ["train.max_steps=1", "evaluate.after_training=false", f"encode.layout={layout}"]
    run = heedful.train(rows, model=str(tmp_path / "model"), out=tmp_path / "run", settings=quick)
    assert [event["grad_norm"] > 0 for event in run.metrics() if event["event"] == "step"] == [True]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("phimoe", {"router_jitter_noise": 0.3, "input_jitter_noise": 0.3}),
        ("mixtral", {"router_jitter_noise": 0.3}),
        ("dbrx", {"ffn_config": {"moe_jitter_eps": 0.3, **DBRX}}),
    ],
)
def test_experts_are_trained_as_they_answer(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    """Neither are they drawn at random nor is what they are chosen by jittered, where nothing is dropped out."""
    own, examples = tiny_model(kind, **changes), rows_that_share(1)
    model = load(str(folder_of(tmp_path, kind, **changes))).model
    learner = Learner(model, collator("padded"), TrainConfig(precision="fp32"), steps=1)
    expected, _ = learner.validate(examples)
    assert learner.accumulate(examples, 0)[0] == pytest.approx(expected, rel=1e-5)
    ids = torch.arange(40)[None]
    torch.testing.assert_close(model.eval()(ids).logits, own(ids).logits, atol=1e-4, rtol=1e-4)
    moved = {name for name, gradient in learner.optimizer.gradients() if float(gradient.norm()) > 0}
    assert any("router" in name or "gate" in name for name in moved)
