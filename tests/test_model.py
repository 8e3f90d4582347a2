"""Models are loaded from plain weights or refused in a sentence; what is saved loads again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

import heedful
from heedful import catalogue, from_gguf
from heedful.atomic import sha256
from heedful.begin import answer_config
from heedful.catalogue import CATALOGUE, Location, Wheel, locate, wheel_file, works_offline
from heedful.checking import bound
from heedful.commands.models import pull
from heedful.config import EncodeConfig
from heedful.encode.tokenise import build_encoder
from heedful.errors import ModelError, RunError, UsageError
from heedful.export.gguf_file import write_gguf
from heedful.model import (
    BOUNDLESS,
    Loaded,
    fingerprint,
    fit_vocabulary,
    load,
    load_tokenizer,
    max_positions,
    save,
)
from heedful.records import Message
from heedful.run import open_run
from heedful.settings import load_config
from tests.models import KINDS, POSITIONS, byte_tokenizer, gapped_tokenizer, tiny_model, trained_tokenizer


def folder_of(path: Path, kind: str = "llama", **changes: object) -> Path:
    tiny_model(kind, **changes).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


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
    assert "\n" not in str(caught.value)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, vocab_size=258)
    with pytest.raises(ModelError, match="need 259 embeddings, but the model has only 258"):
        load(str(folder))


def test_a_tokenizer_with_ids_beyond_the_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    gapped_tokenizer(300).save_pretrained(folder)
    with pytest.raises(ModelError, match="need 301 embeddings, but the model has only 259"):
        load(str(folder))


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


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tiny_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end-of-text token"):
        load_tokenizer(str(tmp_path))


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


@pytest.mark.parametrize(
    ("name", "hint"),
    [("smolm2-135m", "Did you mean 'smollm2-135m'?"), ("gpt-2", "Did you mean 'gpt2'?"), ("???", "`heedful models`")],
)
def test_an_unknown_name_gets_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(name)
    assert hint in str(caught.value)
    assert caught.value.exit_code == 2


def test_names_lead_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("org/name") == Location(hub_id="org/name")
    assert locate("gpt2") == Location(hub_id="openai-community/gpt2")
    assert locate(str(tmp_path)) == Location(folder=tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(RunError, match="its training never finished"):
        locate(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    assert locate(str(tmp_path)) == Location(folder=tmp_path / "model")
    with pytest.raises(UsageError, match="no file"):
        locate("absent.gguf")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert not works_offline("gpt2")
    snapshot = tmp_path / "hub/models--openai-community--gpt2/snapshots/0"
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").touch()
    assert not works_offline("gpt2")
    (snapshot / "model.safetensors").touch()
    assert works_offline("gpt2")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert not works_offline("gpt2")


def test_a_models_folder_may_hold_a_config_yaml_too(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "config.yaml").write_text("of: another program")
    assert locate(str(tmp_path)) == Location(folder=tmp_path)
    assert answer_config(tmp_path, {}) == load_config()
    with pytest.raises(UsageError, match="is not a run: it is a model's folder"):
        open_run(tmp_path)


def test_a_models_folder_may_hold_runs(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned/config.yaml").touch()
    assert locate(str(tmp_path)) == Location(folder=tmp_path)


def test_a_folder_closed_to_us_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root would look into it, the system is made to refuse."""
    for folder in ("runs/a", "runs/b", "closed"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/b/config.yaml").touch()
    stat, scan = os.stat, os.listdir

    def refuse(path: object, closed: str) -> None:
        if closed in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("os.stat", lambda path, **more: (refuse(path, "runs/a/"), stat(path, **more))[1])
    monkeypatch.setattr("os.listdir", lambda path=".": (refuse(path, "/closed"), scan(path))[1])
    with pytest.raises(UsageError, match=r"is not a run but a folder of runs. Name one, such as .*runs/b\.$"):
        locate(str(tmp_path / "runs"))
    assert locate(str(tmp_path / "closed")) == Location(folder=tmp_path / "closed")


def test_a_typing_error_in_a_path_is_no_id_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs/my-run").mkdir(parents=True)
    (tmp_path / "runs/my-run/config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("runs/my-rum", "./runs/my-rum"):
        with pytest.raises(UsageError, match=r"There is no folder runs/my-rum. Did you mean 'runs/my-run'"):
            locate(name)
    with pytest.raises(UsageError, match=r"There is no folder runs/my-run/x"):
        locate("runs/my-run/x")


def test_a_model_beside_another_of_its_owner_is_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Qwen/Qwen3-0.6B").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("Qwen/Qwen2.5-0.5B") == Location(hub_id="Qwen/Qwen2.5-0.5B")
    monkeypatch.setattr(Path, "iterdir", _unreadable)
    assert locate("Qwen/Qwen2.5-0.5B") == Location(hub_id="Qwen/Qwen2.5-0.5B")
    with pytest.raises(UsageError, match=r"There is no folder Qwen/Qwen3\.$"):
        locate("./Qwen/Qwen3")


def test_a_model_that_could_not_stay_is_not_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "m.gguf").touch()
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "file/cache"))
    with pytest.raises(RunError, match=r"Cannot keep .*m\.gguf in .*file/cache: .* set HEEDFUL_HOME"):
        pull(str(tmp_path / "m.gguf"))


def _unreadable(folder: Path) -> Iterator[Path]:
    raise PermissionError(folder)


def test_a_name_that_needs_the_network_says_what_works_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="work offline") as caught:
        load("org/absent-model")
    assert "\n" not in str(caught.value)


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A tiny model as a GGUF file."""
    tokenizer = trained_tokenizer("smollm")
    model = tiny_model("llama", vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=2)
    model.save_pretrained(tmp_path / "written")
    encoder = build_encoder(EncodeConfig(template="chatml"), tokenizer, 128)
    write_gguf(tmp_path / "tiny.gguf", tmp_path / "written", model.config, encoder, "f32", "tiny")
    return tmp_path / "tiny.gguf"


def test_a_gguf_file_is_converted_once(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashed once a process; a conversion that was killed is done again, and leaves nothing beside it. A file of the
    same name in the folder that we are in is none of its business."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / gguf_file.name).write_bytes(b"another")
    monkeypatch.chdir(tmp_path / "here")
    hashed: list[Path] = []
    monkeypatch.setattr(from_gguf, "sha256", lambda path: hashed.append(path) or sha256(path))
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    origin = Path(load(str(gguf_file)).origin)
    found = load(str(gguf_file))
    assert hashed == [gguf_file]  # to name it
    assert capsys.readouterr().err.count("Converting") == 1
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "written")
    assert fingerprint(written) == fingerprint(found.model)
    (origin / "MANIFEST.json").unlink()
    assert load(str(gguf_file)).origin == str(origin)
    assert sorted(path.name for path in origin.parent.iterdir()) == [origin.name, f"{origin.name}.lock"]


def test_a_gguf_file_that_changes_while_it_is_read_is_not_kept(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its weights would be found under the name of others."""
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf_file.read_bytes())
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(from_gguf, "sha256", lambda path: (sha256(path), os.utime(path, (1, 1)))[0])
    with pytest.raises(UsageError, match=rf"{file} changed while it was read\. Try again when"):
        load(str(file))
    assert load(str(file)).model.num_parameters() > 0


def test_a_gguf_file_is_converted_where_no_cache_can_be_written(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEEDFUL_HOME", str(gguf_file / "home"))
    assert load(str(gguf_file)).model.num_parameters() > 0


def test_a_wheel_whose_bytes_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"other")
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "wheel_file", lambda wheel: file)
    with pytest.raises(UsageError, match="sha256 differs"):
        load("smollm2-135m")
    assert wheel_file(Wheel("no-such-package", "f", "0")) is None
    assert all(entry.licence for entry in CATALOGUE.values())


def test_a_recurrent_model_is_refused_before_any_work(tmp_path: Path) -> None:
    config = transformers.MambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"mamba models carry a state"):
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
