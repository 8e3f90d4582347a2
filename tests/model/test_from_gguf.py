"""A GGUF file is read as its header says, or refused: what the reader leaves out is no weight or rotation less."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tests.models import begun_with_a_space, sentencepiece_tokenizer, tiny_model, trained_tokenizer
from transformers import PreTrainedModel

from heedful.config import EncodeConfig
from heedful.encode.tokenise import build_encoder
from heedful.errors import ModelError
from heedful.export import architectures, vocabulary
from heedful.export.architectures import ARCHITECTURES
from heedful.export.gguf_file import write_gguf
from heedful.model.pretrained import load

TEXTS = ("In 1999 it  2 x\n\n 3y's", "naïve 你好🙂  12345", " lead")
SPLITS = {"llama": "smollm", "qwen2": "qwen2", "gpt2": "gpt-2"}
Described = Callable[[Any], None]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    # others write such files
    monkeypatch.setattr(architectures, "_refuse_scaled_rotations", lambda config: None)
    as_it_is = ARCHITECTURES["qwen2"]
    for kind, arch, describe in (
        ("phi3", gguf.MODEL_ARCH.PHI3, as_it_is.describe),
        ("starcoder2", gguf.MODEL_ARCH.STARCODER2, describe_starcoder2),
        ("falcon", gguf.MODEL_ARCH.FALCON, describe_falcon),
    ):
        other = dataclasses.replace(as_it_is, name=kind, arch=arch, describe=describe, assumes={})
        monkeypatch.setitem(ARCHITECTURES, kind, other)


def describe_starcoder2(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def describe_falcon(writer: Any, config: Any) -> None:
    writer.add_context_length(512)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(4 * config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def written(path: Path, kind: str, tokenizer: Any, described: Described | None = None, **changes: Any) -> tuple[
    PreTrainedModel, Path
]:  # fmt: skip
    """Write a random model as a GGUF file, with `described` added to its header."""
    model = tiny_model(kind, vocab_size=len(tokenizer), max_position_embeddings=512, **changes)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight) * (weight.ndim == 1)  # biases and norms, which begin as 0 and 1
    model.save_pretrained(path / "folder")
    encoder = build_encoder(EncodeConfig(template="alpaca"), tokenizer, 512)
    own = ARCHITECTURES[kind]

    def describe(writer: Any, config: Any) -> None:
        own.describe(writer, config)
        if described:
            described(writer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, kind, dataclasses.replace(own, describe=describe, assumes={}))
        write_gguf(path / "m.gguf", path / "folder", model.config, encoder, "f32", "x")
    return model, path / "m.gguf"


def rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


def gemma_rope(base: float) -> dict[str, Any]:
    """Give the layers that see a window other angles than those that see everything."""
    kinds = {"full_attention": 20000.0, "sliding_attention": base}
    return {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in kinds.items()}}


def linear(writer: Any) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)


def not_scaled(writer: Any) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_attn_factors(1.0)


def yarn(writer: Any) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(128)


@pytest.mark.parametrize(
    ("kind", "split", "described", "changes"),
    [
        ("llama", "smollm", None, {"tie_word_embeddings": True}),
        ("llama", "smollm", linear, rope("linear", factor=4.0)),
        ("llama", "smollm", lambda writer: writer.add_rope_scaling_factor(4.0), rope("linear", factor=4.0)),
        (
            "llama",
            "smollm",
            lambda writer: writer.add_float32("llama.rope.scale_linear", 4.0),
            rope("linear", factor=4.0),
        ),
        ("llama", "smollm", not_scaled, {}),
        ("qwen2", "qwen2", lambda writer: writer.add_sliding_window(512), {}),  # hides nothing
        ("qwen2", "qwen2", yarn, rope("yarn", factor=4.0, original_max_position_embeddings=128)),
        ("llama", "llama-bpe", None, {"attention_bias": True, "mlp_bias": True}),
        ("qwen3", "qwen2", None, {"head_dim": 16}),
        ("gpt2", "gpt-2", None, {"n_positions": 512, "n_inner": 96}),
        ("gemma3_text", None, None, {"head_dim": 16, "query_pre_attn_scalar": 16}),
        ("gemma3_text", None, lambda writer: writer.add_rope_freq_base_swa(500.0), gemma_rope(500.0)),
        ("gemma3_text", None, lambda writer: writer.add_sliding_window(0), {"sliding_window": 512}),
        ("phi3", None, lambda writer: writer.add_sliding_window(8), {"sliding_window": 8}),
        ("phi3", None, lambda writer: writer.add_sliding_window(0), {"sliding_window": None}),
        ("starcoder2", "gpt-2", None, rope("default", rope_theta=500.0)),
    ],
)
def test_what_is_read_computes_as_what_was_written(
    tmp_path: Path, kind: str, split: str | None, described: Described | None, changes: dict[str, Any]
) -> None:
    tokenizer = trained_tokenizer(split) if split else sentencepiece_tokenizer()
    if kind == "phi3":
        tokenizer = begun_with_a_space(tokenizer)
    model, file = written(tmp_path, kind, tokenizer, described, **changes)
    loaded, ids = load(str(file)), torch.arange(200)[None] % len(tokenizer)
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, model(ids).logits)
    assert loaded.model.config.max_position_embeddings == 512
    for text in TEXTS:
        assert loaded.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_digits_split_the_spaces_before_them(tmp_path: Path) -> None:
    """Which GPT-2's pattern does not: it leaves the last space to the digit."""
    _, file = written(tmp_path, "llama", trained_tokenizer("smollm"))
    pieces = load(str(file)).tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert [piece for piece, _ in pieces] == ["a", "ĠĠ", "1", "2"]


def other_scaling(writer: Any) -> None:
    yarn(writer)
    writer.add_rope_scaling_attn_factors(0.5)


@pytest.mark.parametrize(
    "described",
    [
        other_scaling,
        lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN),
        lambda writer: writer.add_rope_scaling_attn_factors(2.0),  # which counts without a scaling, too
    ],
)
def test_scalings_that_are_not_told_whole_are_refused(tmp_path: Path, described: Described) -> None:
    _, file = written(tmp_path, "llama", trained_tokenizer("smollm"), described)
    with pytest.raises(
        ModelError, match=rf"{file} scales its rotary embeddings .* exactly\. Take the Hugging Face fol"
    ):
        load(str(file))


@pytest.mark.parametrize(
    ("kind", "key", "number", "ours"),
    [
        ("phi3", "rope.dimension_count", 4, 8),
        ("llama", "attention.sliding_window", 8, 0),
        ("qwen2", "attention.sliding_window", 8, 0),  # whose layers all see everything
        ("llama", "attention.value_length", 16, 8),
        ("llama", "rope.dimension_count", 4, 8),
        ("gpt2", "attention.key_length", 4, 8),
    ],
)
def test_a_number_that_the_model_does_not_compute_with_is_refused(
    tmp_path: Path, kind: str, key: str, number: float, ours: float
) -> None:
    def described(writer: Any) -> None:
        kind = gguf.GGUFValueType.UINT32 if isinstance(number, int) else gguf.GGUFValueType.FLOAT32
        writer.add_key_value(f"{writer.arch}.{key}", number, kind)

    tokenizer = trained_tokenizer(SPLITS[kind]) if kind in SPLITS else begun_with_a_space(sentencepiece_tokenizer())
    _, file = written(tmp_path, kind, tokenizer, described)
    sentence = (
        f"{file} cannot be read: its header says {key} is {number}, and the model would compute with {ours}. Take"
    )
    with pytest.raises(ModelError, match=re.escape(sentence)):
        load(str(file))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rope_freqs.weight", "scales its rotary embeddings"),
        ("blk.0.ffn_norm.bias", "4 of its numbers belong to no weight"),
    ],
)
def test_tensors_that_nothing_reads_are_refused(tmp_path: Path, name: str, problem: str) -> None:
    _, file = written(tmp_path, "llama", trained_tokenizer("smollm"))
    more = copied(file, added={name: np.ones(4, np.float32)})
    with pytest.raises(ModelError, match=f"{problem}.* Take the Hugging Face folder"):
        load(str(more))


def test_tensors_of_other_shapes_and_missing_ones_are_named(tmp_path: Path) -> None:
    _, file = written(tmp_path, "llama", trained_tokenizer("smollm"))
    with pytest.raises(ModelError, match=r"norm\.weight has the shape \[4\] there, and \[32\] in the model"):
        load(str(copied(file, without="output_norm.weight", added={"output_norm.weight": np.ones(4, np.float32)})))
    with pytest.raises(ModelError, match=r"it has no model\.norm\.weight\. Take"):
        load(str(copied(file, without="output_norm.weight")))


def test_a_head_beside_tied_embeddings_is_refused_unless_it_is_the_same(tmp_path: Path) -> None:
    model, file = written(tmp_path, "falcon", trained_tokenizer())
    embeddings = model.get_input_embeddings().weight.detach().numpy()
    assert load(str(copied(file, added={"output.weight": embeddings}))).model.config.tie_word_embeddings
    with pytest.raises(ModelError, match=r"its output\.weight is not the token embeddings, as the model's is\. Take"):
        load(str(copied(file, added={"output.weight": 2 * embeddings})))


def test_a_way_to_split_that_is_not_known_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "SPLITS", dict.fromkeys(vocabulary.SPLITS, "other"))
    _, file = written(tmp_path, "llama", trained_tokenizer("smollm"))
    with pytest.raises(ModelError, match="its tokenizer splits texts as other, which is not known here"):
        load(str(file))
    monkeypatch.setattr(vocabulary, "SPLITS", dict.fromkeys(vocabulary.SPLITS, "gpt-2"))
    (tmp_path / "qwen").mkdir()
    _, file = written(tmp_path / "qwen", "qwen2", trained_tokenizer("gpt-2"))
    with pytest.raises(ModelError, match="Qwen2Tokenizer splits texts in another way"):
        load(str(file))


def copied(file: Path, without: str = "", added: dict[str, Any] | None = None) -> Path:
    """Copy a GGUF file of fp32 weights with other tensors."""
    reader = gguf.GGUFReader(str(file))
    writer = gguf.GGUFWriter(str(file.with_name("copy.gguf")), reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    tensors = {t.name: np.array(t.data).reshape([int(n) for n in reversed(t.shape)]) for t in reader.tensors}
    for name, data in ({k: v for k, v in tensors.items() if k != without} | (added or {})).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.with_name("copy.gguf")
