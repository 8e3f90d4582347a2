"""A folder's weights are those of its model, all of them, and those of the tuned model will be: else it is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.models import byte_tokenizer, folder_of, plain_tokenizer, tiny_model
from transformers import PreTrainedModel

import heedful
from heedful.errors import ModelError
from heedful.model.pretrained import load


def without(folder: Path, *names: str) -> Path:
    """Take weights out of a folder."""
    file = folder / "model.safetensors"
    save_file({name: w for name, w in load_file(file).items() if name not in names}, file, {"format": "pt"})
    return folder


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("others", [[], ["model.norm.weight", "lm_head.weight"]])
def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path, others: list[str]) -> None:
    """They would be drawn at random, anew at every loading."""
    folder = without(folder_of(tmp_path), "model.layers.1.mlp.up_proj.weight", *others)
    first = "lm_head.weight and 2 more are" if others else "model.layers.1.mlp.up_proj.weight is"
    with pytest.raises(ModelError, match=f"not those of a LlamaForCausalLM, or not all of them: {first} missing"):
        load(str(folder))


def test_weights_that_may_not_be_read_are_not_told_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = folder_of(tmp_path / "a model"), os.open

    def closed(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(".safetensors"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root would be let in
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", closed)
    file = folder / "model.safetensors"
    with pytest.raises(
        ModelError, match=f"{file} may not be read: Permission denied. Let its owner run chmod.*'{file}'"
    ):
        load(str(folder))


def test_a_link_that_leads_nowhere_beside_the_weights_is_passed_over(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "other.safetensors").symlink_to("nowhere")
    assert load(str(folder))


@pytest.mark.parametrize("kind", [transformers.LlamaModel, transformers.LlamaForSequenceClassification])
def test_a_model_without_a_head_for_tokens_is_refused(tmp_path: Path, kind: Any) -> None:
    folder = saved(kind(tiny_model("llama").config), tmp_path)
    with pytest.raises(ModelError, match=r"not those of a LlamaForCausalLM.*: lm_head.weight is missing"):
        load(str(folder))


def test_an_encoder_and_decoder_are_no_causal_language_model(tmp_path: Path) -> None:
    sizes = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("layers", 1), ("ffn_dim", 32))}
    config = transformers.BartConfig(vocab_size=259, d_model=16, eos_token_id=258, **sizes)
    folder = saved(transformers.BartForConditionalGeneration(config), tmp_path)
    with pytest.raises(ModelError, match=r"not those of a BartForCausalLM.*lm_head.weight and 1 more are missing"):
        load(str(folder))


def test_a_head_that_is_the_table_is_not_missing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load(str(folder)).model
    assert torch.equal(model.get_output_embeddings().weight, tiny_model("llama").get_input_embeddings().weight)


def test_weights_of_other_sizes_than_configured_are_one_sentence(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    described = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 48}
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(ModelError, match=r"down_proj.weight has the shape \[32, 64\] instead of \[32, 48\]\. Save"):
        load(str(folder))


def rows_in(folder: Path) -> Path:
    file = folder / "rows.json"
    file.write_text(json.dumps([{"instruction": f"Say {i}", "output": f"{i}."} for i in range(40)]))
    return file


def test_a_model_that_could_not_be_loaded_once_tuned_is_refused_before_its_training(tmp_path: Path) -> None:
    """The text part of a model of images, of a type that only the whole is loaded by."""
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"intermediate_size": 64, "cross_attention_layers": [1], "vocab_size": 259, "pad_token_id": 256}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "eos_token_id": 258}
    image = {"hidden_size": 32, "num_hidden_layers": 1, "num_global_layers": 1, "attention_heads": 4}
    image |= {"intermediate_size": 32, "image_size": 16, "patch_size": 8, "intermediate_layers_indices": [0]}
    config = transformers.MllamaConfig(text_config=text, vision_config={**image, "vision_output_dim": 64})
    folder = saved(transformers.MllamaForConditionalGeneration(config), tmp_path / "model")
    load(str(folder))
    with pytest.raises(ModelError, match="could not load the tuned model: mllama_text_model is no type of causal"):
        heedful.train(rows_in(tmp_path), model=str(folder), out=tmp_path / "run")
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_configuration_that_does_not_grow_with_its_table_is_refused(tmp_path: Path) -> None:
    sizes = {"d_model": 32, "decoder_layers": 1, "decoder_ffn_dim": 64, "decoder_attention_heads": 4}
    config = transformers.MarianConfig(
        vocab_size=259, decoder_vocab_size=259, pad_token_id=256, eos_token_id=256, forced_eos_token_id=None, **sizes
    )
    config.is_decoder = True
    folder = tmp_path / "model"
    transformers.MarianForCausalLM(config).save_pretrained(folder)
    plain_tokenizer().save_pretrained(folder)
    with pytest.raises(ModelError, match=r"the tuned model with 2 added tokens: lm_head.weight is another"):
        heedful.train(rows_in(tmp_path), model=str(folder), out=tmp_path / "run", settings=["encode.template=chatml"])
