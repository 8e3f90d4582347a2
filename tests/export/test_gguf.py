"""A GGUF file is the run's model: for each architecture and precision, to transformers' reader and to llama.cpp."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
from tests.export.runs import make_run, needs_llama_cpp
from tests.models import begun_with_a_space, byte_tokenizer, sentencepiece_tokenizer, trained_tokenizer, word_tokenizer
from tokenizers import pre_tokenizers

from heedful import pipeline
from heedful.errors import ExportError
from heedful.export.llama_cpp import missing

MODELS = {
    "llama": ("llama", lambda: trained_tokenizer("smollm"), {}),
    "llama-3": ("llama", lambda: trained_tokenizer("llama-bpe"), {"tie_word_embeddings": True}),
    "gpt2": ("gpt2", trained_tokenizer, {}),
    "qwen2": ("qwen2", lambda: trained_tokenizer("qwen2"), {}),
    "qwen3": ("qwen3", lambda: trained_tokenizer("qwen2"), {}),
    "gemma3": ("gemma3_text", sentencepiece_tokenizer, {}),
    "llama-2": ("llama", lambda: begun_with_a_space(sentencepiece_tokenizer()), {}),
}


FILES = [*((name, "f32") for name in MODELS), *itertools.product(("gpt2", "gemma3"), ("f16", "q8_0"))]


@pytest.mark.parametrize(("name", "kind"), FILES)
def test_the_file_is_the_runs_model(name: str, kind: str, tmp_path: Path) -> None:
    architecture, tokenizer, changes = MODELS[name]
    run = make_run(tmp_path / "run", architecture, tokenizer(), hidden_size=64, n_embd=64, **changes)
    made = pipeline.export(run, "gguf", quantize=kind)
    receipt = made.receipt
    assert made.path == run.path / "export" / f"run-{kind}.gguf"
    assert receipt["answers"]["answers"] == 20
    assert receipt["answers"]["equal"] == 20 or kind != "f32", receipt
    assert receipt["answers"]["different"] == 0 or kind == "q8_0", receipt
    assert receipt["llama_cpp"]["checked"] == (not missing())
    assert json.loads(Path(f"{made.path}.receipt.json").read_text()) == receipt


def test_names_and_shapes_are_those_of_llama_cpps_converter(tmp_path: Path) -> None:
    """As listed in the GGUF files that its converter writes for Llama and GPT-2."""
    run = make_run(tmp_path / "llama", "llama", trained_tokenizer("smollm"), tie_word_embeddings=True)
    reader = gguf.GGUFReader(pipeline.export(run, "gguf", quantize="f16").path)
    block = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
    blocks = [f"blk.{number}.{part}.weight" for number in range(2) for part in block]
    assert {tensor.name for tensor in reader.tensors} == {"token_embd.weight", "output_norm.weight", *blocks}
    shapes = {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    assert shapes["blk.0.attn_k.weight"] == [32, 16]
    assert shapes["blk.0.ffn_down.weight"] == [64, 32]
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.ggml.eos_token_id"] == fields["tokenizer.ggml.tokens"].index("<|im_end|>")
    assert fields["tokenizer.chat_template"].startswith("{% for message in messages %}")
    assert fields["tokenizer.ggml.token_type"][-6:] == [3, 5, 5, 5, 5, 5]  # <|im_end|>, then rows without a token

    run = make_run(tmp_path / "gpt2", "gpt2", trained_tokenizer(), "alpaca")
    reader = gguf.GGUFReader(pipeline.export(run, "gguf", quantize="q4_0").path)
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert {types[f"blk.0.{part}.weight"] for part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")} == {"Q4_0"}
    assert types["token_embd.weight"] == "Q8_0"
    assert types["position_embd.weight"] == types["blk.1.attn_qkv.bias"] == "F32"


def test_a_model_that_llama_cpp_computes_otherwise_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "llama", trained_tokenizer("smollm"), hidden_act="gelu")
    with pytest.raises(ExportError, match="hidden_act=silu, but this model has gelu"):
        pipeline.export(run, "gguf")


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("qwen2", {"head_dim": 16}, "qwen2 with head_dim=8, but this model has 16"),
        ("qwen3", {"attention_bias": True}, "qwen3 with attention_bias=False, but this model has True"),
        ("gemma3", {"attention_bias": True}, "gemma3 with attention_bias=False, but this model has True"),
    ],
)
def test_a_model_that_llama_cpp_cannot_load_is_refused(
    name: str, changes: dict[str, object], told: str, tmp_path: Path
) -> None:
    """Transformers reads such a file, so without llama.cpp it would pass for the same model."""
    architecture, tokenizer, _ = MODELS[name]
    run = make_run(tmp_path / "run", architecture, tokenizer(), **changes)
    with pytest.raises(ExportError, match=told):
        pipeline.export(run, "gguf")


def test_scaled_rotary_embeddings_are_refused(tmp_path: Path) -> None:
    """As Llama 3.1 and 3.2 have them."""
    rope = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    run = make_run(tmp_path / "run", "llama", trained_tokenizer("llama-bpe"), rope_parameters=rope)
    with pytest.raises(ExportError, match=r"rotary embeddings that are scaled, as this model's are \(llama3\)"):
        pipeline.export(run, "gguf")


@pytest.mark.parametrize("tokenizer", [byte_tokenizer, lambda: word_tokenizer(["▁one", "▁two"])])
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(tmp_path / "run", "llama", tokenizer(), "alpaca")
    with pytest.raises(ExportError, match="knows no tokenizer like this model's"):
        pipeline.export(run, "gguf")
    assert not (run.path / "export").exists()


def test_spaces_that_llama_cpp_would_add_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It puts one after each special token, this tokenizer only before a whole text; known without llama.cpp, too."""
    tokenizer = sentencepiece_tokenizer()
    tokenizer.backend_tokenizer.normalizer = None
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    run = make_run(tmp_path / "run", "llama", tokenizer)
    monkeypatch.setattr("heedful.export.llama_cpp.missing", lambda: "it is not installed")
    with pytest.raises(ExportError, match=r"llama\.cpp would read a prompt's spaces differently: '<bos><start"):
        pipeline.export(run, "gguf", quantize="f32")
    assert not list((run.path / "export").iterdir())


@needs_llama_cpp
def test_llama_cpp_notices_another_splitting_and_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt can fail: a file with a wrong way of splitting, or of laying weights, is not published."""
    from heedful.export import architectures, vocabulary

    run = make_run(tmp_path / "run", "llama", trained_tokenizer("qwen2"))
    with monkeypatch.context() as patch:
        wrong = dict.fromkeys(vocabulary.SPLITS, "gpt-2")
        patch.setattr(vocabulary, "SPLITS", wrong)
        with pytest.raises(ExportError, match="tokenises a prompt differently"):
            pipeline.export(run, "gguf", quantize="f32")
    with monkeypatch.context() as patch:
        llama = architectures.ARCHITECTURES["llama"]
        patch.setitem(
            architectures.ARCHITECTURES, "llama", replace(llama, store=architectures.ARCHITECTURES["qwen2"].store)
        )
        with pytest.raises(ExportError, match="does not answer as the run"):
            pipeline.export(run, "gguf", quantize="f32")
    assert not list((run.path / "export").iterdir())
