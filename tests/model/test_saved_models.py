"""What is trained can be written and loaded again, whatever its configuration says; else it is refused before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models import folder_of, plain_tokenizer, tiny_model

import heedful
from heedful.errors import ModelError
from heedful.model import weights
from heedful.model.pretrained import load, load_tokenizer

LONG = 512  # tokens


def configured(folder: Path, **changes: Any) -> Path:
    """Change what config.json says."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def train(tmp_path: Path, folder: Path, *settings: str) -> Path:
    """Train for one update, and give the run."""
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"instruction": f"Say {i}", "output": f"{i}."} for i in range(40)]))
    quick = ["train.max_steps=1", "evaluate.after_training=false", *settings]
    return Path(heedful.train(rows, model=str(folder), out=tmp_path / "run", settings=quick).path)


@pytest.mark.parametrize("asked", [{"output_attentions": True}, {"return_dict": False}])
def test_what_a_forward_shall_return_keeps_no_model_from_being_trained_and_written(
    tmp_path: Path, asked: dict[str, bool]
) -> None:
    run = train(tmp_path, configured(folder_of(tmp_path / "model", max_position_embeddings=LONG), **asked))
    load(str(run))


def test_a_part_of_text_is_not_asked_for_attentions_either(tmp_path: Path) -> None:
    """Of a model whose configuration holds that of its text inside."""
    text = tiny_model("gemma3_text").config.to_dict() | {"output_attentions": True, "return_dict": False}
    folder = configured(folder_of(tmp_path, "gemma3_text"), model_type="gemma3", text_config=text)
    config = load_tokenizer(str(folder))[1].get_text_config()
    assert (config.output_attentions, config.return_dict) == (False, True)


@pytest.mark.parametrize("kind", ["bert", "ernie"])
def test_a_bias_that_growing_ties_and_the_configuration_does_not_is_refused(tmp_path: Path, kind: str) -> None:
    """Saving would drop one of its two names, which a loading would miss."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": LONG}
    folder = folder_of(tmp_path / "model", kind, **sizes, is_decoder=True, tie_word_embeddings=False)
    plain_tokenizer().save_pretrained(folder)
    with pytest.raises(ModelError, match=r"model with 2 added tokens: cls.predictions.decoder.bias is another in a "):
        train(tmp_path, folder, "encode.template=chatml")
    load(str(train(tmp_path, folder, "encode.template=alpaca")))


def test_a_head_of_its_own_in_a_tied_configuration_is_written_and_read(tmp_path: Path) -> None:
    folder = configured(folder_of(tmp_path / "model", max_position_embeddings=LONG), tie_word_embeddings=True)
    model = load(str(train(tmp_path, folder))).model
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight


def test_a_head_of_its_own_stays_one_though_a_tied_configuration_grows(tmp_path: Path) -> None:
    folder = configured(folder_of(tmp_path / "model", max_position_embeddings=LONG), tie_word_embeddings=True)
    plain_tokenizer().save_pretrained(folder)
    before = load(str(folder)).model.get_output_embeddings().weight
    after = load(str(train(tmp_path, folder, "encode.template=chatml", "train.lr=1e-9"))).model
    torch.testing.assert_close(after.get_output_embeddings().weight[: len(before)], before)
    assert after.get_output_embeddings().weight is not after.get_input_embeddings().weight


def test_a_configuration_that_knows_of_no_tying_grows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", "inkling_text", max_position_embeddings=LONG)
    plain_tokenizer().save_pretrained(folder)
    assert load(str(train(tmp_path, folder, "encode.template=chatml")))


def test_a_configuration_that_describes_no_model_is_told_by_its_reason() -> None:
    model = tiny_model("llama")
    model.config.num_attention_heads = 5
    with pytest.raises(ModelError, match=r"^m: transformers could not load the tuned model: The hidden size \(32\)"):
        weights.check_written(model, 0, "m")
