"""Families of models that are unlike most: each is trained exactly, or refused for what is true of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models import VOCABULARY, byte_tokenizer, folder_of, tiny_model
from tests.train.test_loss import collator, rows_that_share
from transformers import PreTrainedModel

import heedful
from heedful.config import TrainConfig
from heedful.errors import ModelError
from heedful.model.pretrained import load
from heedful.train.learner import Learner
from heedful.train.probe import tree_is_exact

_WIDE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "granitemoehybrid": {
        **(_WIDE | _EXPERTS),
        "layer_types": ["full_attention", "full_attention"],
        "mamba_n_heads": 4,
        "shared_intermediate_size": 32,
    },
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "causal": True, "pad_token_id": 2},
    "reformer": {
        "hidden_size": 32,
        "attn_layers": ["local", "local"],
        "num_attention_heads": 4,
        "attention_head_size": 8,
        "feed_forward_size": 64,
        "axial_pos_embds": False,
        "is_decoder": True,
    },
    "gemma3n_text": {
        **_WIDE,
        "head_dim": 8,
        "laurel_rank": 4,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0, 0.0],
        "intermediate_size": [64, 64],
        "layer_types": ["sliding_attention", "sliding_attention"],
        "sliding_window": 8,
        "pad_token_id": 0,
    },
    "phimoe": {**(_WIDE | _EXPERTS), "router_jitter_noise": 0.3, "input_jitter_noise": 0.3},
    "mixtral": {**(_WIDE | _EXPERTS), "router_jitter_noise": 0.3},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512, "attn_implementation": "eager"},
    "dbrx": {
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "max_seq_len": 512,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
        "ffn_config": {
            "hidden_size": 32,
            "ffn_hidden_size": 64,
            "moe_num_experts": 4,
            "moe_top_k": 2,
            "moe_jitter_eps": 0.3,
        },
    },
}


def one_of(kind: str, **changes: Any) -> PreTrainedModel:
    eager = {"attn_implementation": "eager"} if kind in ("xlm", "reformer") else {}
    return tiny_model(kind, **{**FAMILIES[kind], **eager, **changes})


def saved(model: PreTrainedModel, folder: Path) -> str:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def test_a_hybrid_family_s_model_of_attention_alone_is_a_transformer(tmp_path: Path) -> None:
    """Granite 4.0 exists with and without Mamba."""
    model = load(saved(one_of("granitemoehybrid"), tmp_path / "attention")).model
    assert tree_is_exact(model, 60)
    mixed = saved(one_of("granitemoehybrid", layer_types=["linear_attention", "full_attention"]), tmp_path / "mixed")
    with pytest.raises(ModelError, match="granitemoehybrid models of this configuration carry more from token to"):
        load(mixed)


def test_a_model_that_asserts_it_gets_no_tree_is_trained_in_rows() -> None:
    assert not tree_is_exact(one_of("xlm"), 60)


def test_a_model_that_learns_only_from_rows_of_some_lengths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reformer models learn only from rows whose length is a multiple"):
        load(saved(one_of("reformer"), tmp_path))


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
    model = one_of("gemma3n_text")
    assert not model.get_input_embeddings().weight[0].any()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows.write_text(
        json.dumps([{"instruction": f"Say {i}", "output": "Well, " * (3 * i % 9) + f"{i}."} for i in range(40)])
    )
    quick = ["train.max_steps=1", "evaluate.after_training=false", f"encode.layout={layout}"]
    run = heedful.train(rows, model=str(tmp_path / "model"), out=tmp_path / "run", settings=quick)
    assert [event["grad_norm"] > 0 for event in run.metrics() if event["event"] == "step"] == [True]


def test_a_part_of_a_configuration_that_takes_whole_numbers_alone_is_left(tmp_path: Path) -> None:
    """MPT's dropout of attention."""
    load(saved(one_of("mpt"), tmp_path), dropout=0.25)


@pytest.mark.parametrize("kind", ["phimoe", "mixtral", "dbrx"])
def test_experts_are_trained_as_they_answer(tmp_path: Path, kind: str) -> None:
    """Neither are they drawn at random nor is what they are chosen by jittered, where nothing is dropped out."""
    own, examples = one_of(kind), rows_that_share(1)
    model = load(saved(own, tmp_path)).model
    learner = Learner(model, collator("padded"), TrainConfig(precision="fp32"), steps=1)
    expected, _ = learner.validate(examples)
    assert learner.accumulate(examples, 0)[0] == pytest.approx(expected, rel=1e-5)
    ids = torch.arange(40)[None]
    torch.testing.assert_close(model.eval()(ids).logits, own(ids).logits, atol=1e-4, rtol=1e-4)
    moved = {name for name, gradient in learner.optimizer.gradients() if float(gradient.norm()) > 0}
    assert any("router" in name or "gate" in name for name in moved)
