"""What cannot be trained safely and exactly is refused in one sentence, before any work."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
import transformers
from tests.models import byte_tokenizer, folder_of, gapped_tokenizer, tiny_model

from heedful.errors import ModelError
from heedful.model.pretrained import load, load_tokenizer
from heedful.model.saving import save


def test_code_that_comes_with_a_model_is_refused(tmp_path: Path) -> None:
    """Invariant 14."""
    folder = with_code(folder_of(tmp_path), model_type="evil")
    with pytest.raises(ModelError, match=r"auto_map.* none for model_type 'evil'"):
        load(str(folder))
    assert not (folder / "ran").exists()


def test_a_model_that_transformers_knows_needs_not_the_code_that_comes_with_it(tmp_path: Path) -> None:
    folder = with_code(folder_of(tmp_path))
    loaded = load(str(folder))
    assert type(loaded.model) is transformers.LlamaForCausalLM
    assert not (folder / "ran").exists()
    save(loaded.model, loaded.tokenizer, tmp_path / "saved")
    assert not any("auto_map" in file.read_text() for file in (tmp_path / "saved").glob("*config.json"))


def with_code(folder: Path, **changes: str) -> Path:
    """Let a folder ask for code of its own, which leaves a file where it runs."""
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Evil", None]}
    for name, more in (("config.json", changes), ("tokenizer_config.json", {})):
        described = json.loads((folder / name).read_text()) | {"auto_map": names} | more
        (folder / name).write_text(json.dumps(described))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    return folder


def test_code_that_comes_with_a_tokenizer_is_not_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    file = folder / "tokenizer_config.json"
    described = json.loads(file.read_text()) | {
        "tokenizer_class": "Evil",
        "auto_map": {"AutoTokenizer": ["evil.Evil", None]},
    }
    file.write_text(json.dumps(described))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with contextlib.suppress(ModelError):  # refused or loaded without it
        load(str(folder))
    assert not (folder / "ran").exists()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled; convert them to safetensors"):
        load(str(folder))


@pytest.mark.parametrize(
    ("remove", "complaint"),
    [
        ("tokenizer.json", "has no tokenizer"),
        ("config.json", "not a model folder"),
        ("model.safetensors", "holds no .safetensors"),
    ],
)
def test_what_a_folder_lacks_is_said(tmp_path: Path, remove: str, complaint: str) -> None:
    folder = folder_of(tmp_path)
    (folder / remove).unlink()
    with pytest.raises(ModelError, match=complaint):
        load(str(folder))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, file: str, content: str) -> None:
    folder = folder_of(tmp_path)
    (folder / file).write_text(content)
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, vocab_size=258)
    with pytest.raises(ModelError, match="need 259 embeddings, but the model has only 258"):
        load(str(folder))


def test_a_tokenizer_with_ids_beyond_the_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    gapped_tokenizer(300).save_pretrained(folder)
    with pytest.raises(ModelError, match="need 301 embeddings, but the model has only 259"):
        load(str(folder))


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tiny_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end-of-text token"):
        load_tokenizer(str(tmp_path))


def test_a_recurrent_model_is_refused_before_any_work(tmp_path: Path) -> None:
    config = transformers.MambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"mamba models .* carry more from token to token than keys and values"):
        load(str(tmp_path))


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_a_model_that_sees_the_answer_is_refused(tmp_path: Path, kind: str) -> None:
    folder = folder_of(tmp_path, kind, is_decoder=False)
    with pytest.raises(ModelError, match=f"{kind} models .* no causal language models: their earlier tokens see later"):
        load(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_decoder": True}))
    load(str(folder))


def test_positions_that_count_from_elsewhere_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "roberta", is_decoder=True, pad_token_id=1)
    with pytest.raises(ModelError, match=r"roberta models .* count positions otherwise than from 0"):
        load(str(folder))


def test_a_model_whose_rows_depend_on_what_follows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"prophetnet models .* compute a row that is padded otherwise than alone"):
        load(str(folder_of(tmp_path, "prophetnet")))
