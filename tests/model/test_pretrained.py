"""Models are loaded from plain weights or refused in a sentence; what is saved loads again."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.models import KINDS, POSITIONS, byte_tokenizer, folder_of, gapped_tokenizer, tiny_model
from transformers import PreTrainedModel

import heedful
from heedful.checking import bound
from heedful.config import EncodeConfig
from heedful.encode.tokenise import build_encoder
from heedful.errors import ModelError
from heedful.model.pretrained import BOUNDLESS, Loaded, fingerprint, load, load_tokenizer, max_positions
from heedful.model.saving import save
from heedful.model.vocabulary import fit_vocabulary
from heedful.records import Message


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_loads_again(tmp_path: Path, kind: str) -> None:
    model, tokenizer = tiny_model(kind), byte_tokenizer()
    save(model, tokenizer, tmp_path / "model", {"note.json": {"é": 1}})
    loaded = load(str(tmp_path / "model"))
    ids = torch.arange(50)[None]
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, model(ids).logits)
    assert loaded.tokenizer("é🙂<|im_end|>")["input_ids"] == tokenizer("é🙂<|im_end|>")["input_ids"]
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert loaded.origin == str(tmp_path / "model")
    assert json.loads((tmp_path / "model/note.json").read_text()) == {"é": 1}
    assert max_positions(loaded.model.config) == POSITIONS
    assert fingerprint(loaded.model) == fingerprint(model) != fingerprint(tiny_model(kind, seed=1))


LONGROPE = {"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}}


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("gptj", {"n_positions": 77}, 77),
        ("mpt", {"max_seq_len": 77}, 77),
        ("bloom", {"seq_length": 77}, 77),
        ("bloom", {"seq_length": None, "n_ctx": 77}, 77),
        ("llama", {"max_position_embeddings": -1, "seq_length": 0}, BOUNDLESS),
        ("bloom", {}, BOUNDLESS),
        ("xlnet", {}, BOUNDLESS),
        ("phi3", {"max_position_embeddings": 128, "original_max_position_embeddings": 32} | LONGROPE, 32),
    ],
)
def test_positions_are_read_by_each_name_that_models_have_for_them(
    kind: str, settings: dict[str, Any], expected: int
) -> None:
    assert max_positions(transformers.AutoConfig.for_model(kind, **settings)) == expected


def test_what_no_model_names_the_settings_say_or_it_is_assumed_and_told() -> None:
    said: list[str] = []
    bloom, gpt2 = (transformers.AutoConfig.for_model(kind) for kind in ("bloom", "gpt2"))
    asked, silent = EncodeConfig(max_tokens=5000), EncodeConfig()
    assert [bound(one, gpt2, said.append) for one in (asked, silent)] == [asked, silent]
    assert bound(asked, bloom, said.append) == asked
    assert not said
    assert bound(silent, bloom, said.append).max_tokens == 1024
    assert said == ["bloom models name no context length; 1,024 tokens are assumed (see encode.max_tokens)."]


def test_half_precision_weights_become_fp32_masters(tmp_path: Path) -> None:
    tiny_model("llama").bfloat16().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert {p.dtype for p in load(str(tmp_path)).model.parameters()} == {torch.float32}


def test_a_save_that_fails_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    save(tiny_model("llama"), byte_tokenizer(), folder)
    before = (folder / "model.safetensors").read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(ModelError, match="No space left on device"):
            save(tiny_model("llama", seed=1), byte_tokenizer(), folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["model"]
    save(tiny_model("llama", seed=1), byte_tokenizer(), folder)
    assert (folder / "model.safetensors").read_bytes() != before
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


def with_image_token(path: Path, pad: bool = False) -> Path:
    """As Gemma 3's models of text: a special token that no text needs, and no embedding for it."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]} | ({"pad_token": "<image>"} if pad else {}))
    tiny_model("llama").save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize("pad", [False, True])
def test_a_special_token_that_no_template_writes_needs_no_embedding(tmp_path: Path, pad: bool) -> None:
    loaded = load(str(with_image_token(tmp_path, pad)))
    assert loaded.tokenizer.pad_token_id == 258
    before = [table.weight.detach().clone() for table in tables(loaded.model)]
    tokenizer, config, _ = load_tokenizer(str(tmp_path))
    encoder = build_encoder(EncodeConfig(template="alpaca"), tokenizer, max_positions(config))
    assert fit_vocabulary(loaded, tokenizer) == 0
    assert [len(table.weight) for table in tables(loaded.model)] == [259, 259]
    assert "<image>" in tokenizer.decode(encoder.prompt_ids([Message("user", "What is <image>?")]))
    assert max(encoder.prompt_ids([Message("user", "What is <image>?")])) < 259
    tokenizer.add_tokens(["<new>"])  # behind it
    assert fit_vocabulary(loaded, tokenizer) == 1
    for table, old in zip(tables(loaded.model), before, strict=True):
        assert len(table.weight) == 261
        assert torch.equal(table.weight[:259], old)
        assert torch.equal(table.weight[260], old.mean(0))


def test_a_template_that_writes_a_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    folder, rows = with_image_token(tmp_path / "model"), tmp_path / "rows.json"
    tokenizer = load_tokenizer(str(folder))[0]
    tokenizer.chat_template = "{% for m in messages %}<image>{{ m.content }}<|im_end|>{% endfor %}"
    tokenizer.save_pretrained(folder)
    sentence = r"The template writes the token with the id 259, but the model has only 259 embeddings\. Choose"
    with pytest.raises(ModelError, match=sentence):
        heedful.load(folder).generate(["Hello"])
    rows.write_text(json.dumps([{"instruction": f"Say {i}", "output": f"{i}."} for i in range(40)]))
    with pytest.raises(ModelError, match=sentence):
        heedful.train(rows, model=str(folder), out=tmp_path / "run")


def test_padding_for_other_tools_is_the_end_of_text(tmp_path: Path) -> None:
    tokenizer, _, _ = load_tokenizer(str(folder_of(tmp_path)))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 258


@pytest.mark.parametrize("kind", ["gpt2", "llama", "biogpt"])
def test_dropout_is_as_configured(tmp_path: Path, kind: str) -> None:
    folder = folder_of(tmp_path, kind)
    for dropout in (0.0, 0.25):
        model = load(str(folder), dropout).model.train()
        ids = torch.arange(30)[None]
        assert torch.equal(model(ids).logits, model(ids).logits) == (dropout == 0)


def test_a_whole_number_as_dropout_is_a_dropout(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"attention_dropout": 0}
    (folder / "config.json").write_text(json.dumps(config))
    assert load(str(folder), 0.25).model.config.attention_dropout == 0.25


@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # the tables of one are two, those of the other one
@pytest.mark.parametrize("rows", [259, 260, 264])
def test_new_tokens_get_the_mean_embedding(kind: str, rows: int) -> None:
    """Also where the table has rows to spare, as padded vocabularies do."""
    model, tokenizer = tiny_model(kind, vocab_size=rows), byte_tokenizer()
    loaded = Loaded(model, byte_tokenizer(), "tiny")
    before = [table.weight.detach().clone() for table in tables(model)]
    assert fit_vocabulary(loaded, tokenizer) == 0
    assert all(torch.equal(table.weight, old) for table, old in zip(tables(model), before, strict=True))
    tokenizer.add_tokens(["<new>"])
    assert fit_vocabulary(loaded, tokenizer) == 1
    for table, old in zip(tables(model), before, strict=True):
        assert len(table.weight) == max(rows, 260)
        assert torch.equal(table.weight[:259], old[:259])
        assert torch.equal(table.weight[260:], old[260:])
        assert torch.equal(table.weight[259], old[:259].mean(0))


def test_a_vocabulary_with_gaps_has_no_mean_of_what_no_token_uses() -> None:
    model, tokenizer = tiny_model("llama", vocab_size=300), gapped_tokenizer(280)
    before = model.get_input_embeddings().weight.detach().clone()
    tokenizer.add_tokens(["<new>"])
    assert fit_vocabulary(Loaded(model, gapped_tokenizer(280), "tiny"), tokenizer) == 1
    new = tokenizer.convert_tokens_to_ids("<new>")
    after, used = model.get_input_embeddings().weight, sorted(gapped_tokenizer(280).get_vocab().values())
    assert torch.equal(after[new], before[used].mean(0))
    assert [i for i in range(300) if not torch.equal(after[i], before[i])] == [new]


def tables(model: PreTrainedModel) -> list[torch.nn.Module]:
    return [model.get_input_embeddings(), model.get_output_embeddings()]


def test_a_model_that_learned_its_new_tokens_keeps_them(tmp_path: Path) -> None:
    """A run's model is trained on, or asked, with the tokenizer that it was saved with."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<new>"])
    model = tiny_model("llama", vocab_size=264)
    save(model, tokenizer, tmp_path / "model")
    loaded = load(str(tmp_path / "model"))
    for _ in range(2):
        assert fit_vocabulary(loaded, load_tokenizer(str(tmp_path / "model"))[0]) == 0
    assert fingerprint(loaded.model) == fingerprint(model)
