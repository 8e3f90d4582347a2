"""A folder or an adapter is the run's model; what cannot be exported is refused in a sentence and leaves nothing."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.data.made_rows import questions
from tests.export.runs import make_run
from tests.models import byte_tokenizer, trained_tokenizer
from tests.processes import heedful
from transformers import AutoModelForCausalLM, AutoTokenizer

from heedful import pipeline
from heedful.begin import configure
from heedful.cli import main
from heedful.data import load_splits
from heedful.errors import ExportError, HeedfulError, RunError, UsageError
from heedful.export import artefact
from heedful.export.reference import parts
from heedful.reporter import SILENT
from heedful.run import Run, open_run
from heedful.settings import load_config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "run", "llama", byte_tokenizer(), tie_word_embeddings=True)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_the_folder_loads_as_it_is(run: Run, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.model / "README.md").write_text("# card")
    made = pipeline.export(run, quantize=kind, out=tmp_path / "out")
    assert "data cannot be read, so the set that ships gives the questions" in " ".join(capsys.readouterr().err.split())
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[kind]
    model = AutoModelForCausalLM.from_pretrained(made.path, dtype="auto")
    assert model.dtype == dtype
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.generation_config.eos_token_id == [258]
    assert (made.path / "README.md").read_text() == "# card"
    tokenizer = AutoTokenizer.from_pretrained(made.path)
    assert tokenizer.chat_template == (made.path / "chat_template.jinja").read_text()
    assert made.receipt["answers"]["different"] == 0
    assert made.receipt["prompts"]["equal"] == made.receipt["prompts"]["conversations"] >= 20
    assert json.loads((made.path / "export_receipt.json").read_text()) == made.receipt
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    assert heedful_answers(made.path) == heedful_answers(run.model) or kind != "f32"


def heedful_answers(folder: Path) -> list[str]:
    engine = pipeline.load(folder, settings=["generate.precision=fp32"])
    return [c.text for c in engine.generate(["One?", "Two?"], configure(None, [], None, None).generate.sampling())]


@pytest.mark.parametrize(("words", "positions"), [(200, 512), (200, 40), (1, 40)])
def test_questions_longer_than_the_model_are_cut_as_for_training(words: int, positions: int, tmp_path: Path) -> None:
    """Of 40 positions the template leaves none for all the tokens that are compared."""
    run = make_run(tmp_path / "run", "llama", byte_tokenizer(), max_position_embeddings=positions)
    rows = [
        {"instruction": f"What says document {i}?", "input": f"{i} word " * words, "output": "x"} for i in range(30)
    ]
    (run.path / "gone.json").write_text(json.dumps(rows))
    assert pipeline.export(run, quantize="f32").receipt["answers"]["equal"] == 20


def test_rows_that_were_learned_are_asked_where_too_few_are_held_back(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "llama", byte_tokenizer())
    rows = run.path / "rows.json"
    rows.write_text(json.dumps([{"instruction": f"Say {i}.", "output": f"{i}"} for i in range(30)]))
    run.write_config(load_config(None, {"data.path": str(rows), "data.test_share": 0, "data.validation_share": 0.1}))
    assert pipeline.export(run, quantize="f32").receipt["answers"]["equal"] == 20


def test_rows_that_were_held_back_are_asked_first(tmp_path: Path) -> None:
    data = questions(tmp_path / "rows.json", 60)
    first, *_ = parts(data, SILENT)
    assert [*first] == [*load_splits(data)[0].test] != []


def lora_run(folder: Path, tiny_folder: Path, rows_file: Path) -> Run:
    settings = ["train.max_steps=2", "train.method=lora", "train.lr=0.01", "evaluate.after_training=false"]
    more = ["encode.template=chatml", "generate.max_tokens=4", "data.split=in_order"]
    return pipeline.train(str(rows_file), model=str(tiny_folder), settings=[*settings, *more], out=folder)


def test_merged_weights_and_adapter_are_the_same_model(tiny_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    tuned = lora_run(tmp_path / "lora", tiny_folder, rows_file)
    merged = pipeline.export(tuned, "hf", quantize="f32")
    assert 0 < merged.receipt["adapter"]["largest_logit_difference"] <= 1e-4
    alone = pipeline.export(tuned, "hf", adapter=True)
    assert alone.receipt["precision"] == "f32"
    assert {weight.dtype for weight in load_file(alone.path / "adapter_model.safetensors").values()} == {torch.float32}
    names = {file.name for file in alone.path.iterdir()}
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
    } <= names
    assert "model.safetensors" not in names
    spoilt = tuned.path / "adapter" / "adapter_model.safetensors"
    save_file({name: weight + 0.05 for name, weight in load_file(spoilt).items()}, spoilt)
    with pytest.raises(ExportError, match="do not compute what the adapter does"):
        pipeline.export(tuned, "hf", quantize="f32", force=True)
    assert merged.path.is_dir()


def test_an_export_that_is_another_model_is_refused_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heedful.export import folder

    save = folder.saving.save

    def spoil(model: Any, *rest: Any) -> None:
        with torch.no_grad():
            model.model.layers[0].mlp.down_proj.weight[0] *= 1.5
        save(model, *rest)

    monkeypatch.setattr(folder.saving, "save", spoil)
    with pytest.raises(ExportError, match="does not answer as the run"):
        pipeline.export(run, quantize="f32", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_replaced_with_force_alone(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pipeline.export(run, out=out)
    (out / "old").touch()
    with pytest.raises(UsageError, match="exists already"):
        pipeline.export(run, out=out)
    pipeline.export(run, out=out, force=True)
    assert not (out / "old").exists()
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "one").touch()
    with pytest.raises(UsageError, match="has no receipt of an export"):
        pipeline.export(run, out=foreign, force=True)
    assert (foreign / "one").exists()


def test_an_export_behind_a_link_is_replaced_where_it_lies(run: Run, tmp_path: Path) -> None:
    far, out = tmp_path / "disk/far", tmp_path / "out"
    out.symlink_to(far)
    for force in (False, True):
        pipeline.export(run, out=out, force=force)
        assert out.is_symlink() and (far / "export_receipt.json").is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "out"]
        assert [path.name for path in far.parent.iterdir()] == ["far"]
        (far / "export_receipt.json").touch()


def test_the_folder_that_we_are_in_may_be_written_to(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SystemExit) as end:
        main(["export", str(run.path), "--to", "hf", "--out", ".", "--force", "--json"])
    said = capsys.readouterr()
    assert not end.value.code, said.err
    assert json.loads(said.out)["path"] == str(tmp_path / "here")
    assert (tmp_path / "here/export_receipt.json").is_file() and [p.name for p in tmp_path.iterdir()] == ["here"]


def test_a_file_is_replaced_only_beside_its_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model's weights may bear the name that was typed."""
    run = make_run(tmp_path / "run", "llama", trained_tokenizer("smollm"))
    out = tmp_path / "tuned.gguf"
    out.write_text("months of somebody's work")
    with pytest.raises(UsageError, match=r"has no receipt of an export, .*\. Remove it, or choose"):
        pipeline.export(run, "gguf", out=out, force=True)
    assert out.read_text() == "months of somebody's work"
    out.unlink()
    made = pipeline.export(run, "gguf", out=out)
    with pytest.raises(UsageError, match="exists already"):
        pipeline.export(run, "gguf", out=out)
    old = {file: file.read_bytes() for file in (out, tmp_path / "tuned.gguf.receipt.json")}

    def crash(path: Path, value: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(artefact, "write_json", crash)  # killed before the new receipt is written
        with pytest.raises(KeyboardInterrupt):
            pipeline.export(run, "gguf", out=out, force=True)
    assert {file: file.read_bytes() for file in old} == old
    assert pipeline.export(run, "gguf", out=out, force=True).receipt["files"] == made.receipt["files"]


BAD = {
    "form": (["--to", "onnx"], 2, "It takes hf, gguf, ollama"),
    "misspelt form": (["--to", "ggfu"], 2, "Did you mean 'gguf'"),
    "precision": (["--to", "gguf", "--quantize", "q5_k"], 2, "q4_0"),
    "precision of a folder": (["--to", "hf", "--quantize", "q8_0"], 2, "bf16, f16, f32"),
    "adapter in gguf": (["--to", "gguf", "--adapter"], 2, "--adapter"),
    "precision of an adapter": (["--to", "hf", "--adapter", "--quantize", "f16"], 2, "an adapter stays in f32"),
    "adapter of a full run": (["--to", "hf", "--adapter"], 2, "no adapter"),
    "suffix": (["--to", "gguf", "--out", "model.bin"], 2, ".gguf"),
    "no place": (["--to", "hf", "--out", ""], 2, "--out is empty"),
    "no llama.cpp split": (["--to", "gguf"], 1, "knows no tokenizer like"),
}


@pytest.mark.parametrize(("arguments", "code", "told"), BAD.values(), ids=BAD.keys())
def test_bad_usage_gets_one_sentence(run: Run, arguments: list[str], code: int, told: str, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as end:
        main(["export", str(run.path), *arguments])
    message = capsys.readouterr().err
    assert (end.value.code, told in message) == (code, True), message
    assert "Traceback" not in message
    assert not (run.path / "export").exists()


def test_an_architecture_that_gguf_does_not_know_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "gpt_neox", trained_tokenizer())
    with pytest.raises(ExportError, match=r"'gpt_neox'.*gpt2, qwen2"):
        pipeline.export(run, "gguf")


def test_a_run_without_a_model_is_unfinished(run: Run, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    shutil.copy(run.config_file, tmp_path / "half")
    with pytest.raises(RunError, match="holds no model"):
        pipeline.export(open_run(tmp_path / "half"))


def test_a_full_disk_is_seen_before_anything_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(ExportError, match="MiB free"):
        pipeline.export(run, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HeedfulError, match="file"):
        pipeline.export(run, out=tmp_path / "file" / "out")


def test_a_changed_template_is_not_exported(tmp_path: Path) -> None:
    """Invariant 10."""
    run = make_run(tmp_path / "run", "llama", byte_tokenizer())
    file = run.model / "chat_template.jinja"
    file.write_text(file.read_text().replace("assistant", "helper"))
    with pytest.raises(HeedfulError, match="chat template"):
        pipeline.export(run)


@pytest.mark.parametrize("form", ["hf", "gguf"])
def test_a_killed_export_leaves_the_old_one_or_none(form: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "llama", trained_tokenizer("smollm"))
    made = pipeline.export(run, form)
    before = {f.name: f.read_bytes() for f in ([made.path] if form == "gguf" else made.path.iterdir())}
    process = heedful(tmp_path, "export", run.path, "--to", form, "--force")
    while not (left := list(made.path.parent.glob(".*.tmp-*"))) or not any(left[0].iterdir()):
        assert process.poll() is None, process.stderr
        time.sleep(0.001)
    process.kill()
    after = {f.name: f.read_bytes() for f in ([made.path] if form == "gguf" else made.path.iterdir())}
    assert after == before
    assert list(made.path.parent.glob(".*.tmp-*"))
    pipeline.export(run, form, force=True)
    assert not list(made.path.parent.glob(".*.tmp-*"))
