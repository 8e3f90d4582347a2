"""A LoRA run's adapter, where it was trained and exported alone: which base it names, and that peft reads it there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, constants
from peft import AutoPeftModelForCausalLM
from tests.models import folder_of
from transformers import AutoModelForCausalLM

from heedful import pipeline
from heedful.cli import main
from heedful.run import Run

QUESTIONS = ["Repeat the word 7.", "Repeat the word red 2 times.", "Name a fruit."]
LORA = ["train.method=lora", "train.lr=0.02", "evaluate.after_training=false", "encode.template=chatml",
        "generate.max_tokens=40", "generate.precision=fp32"]  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft


def trained(model: str, rows: Path, out: Path, *more: str) -> Run:
    return pipeline.train(str(rows), model=model, settings=[*LORA, "train.max_steps=2", *more], out=out)


def base_named_in(adapter: Path) -> Any:
    return json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]


def used_as_the_card_says(export: Path, question: str, base: str = "") -> tuple[list[int], torch.nn.Module]:
    """Do what the card's block of code does; give the answer's tokens, and the model that gave them."""
    (code,) = re.findall(r"```python\n(.*?)```", (export / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    paths = {"path/to/this/folder": str(export), "path/to/its/base": base, "Name the capital of France.": question}
    for written, meant in paths.items():
        code = code.replace(written, meant)
    done: dict[str, Any] = {}
    exec(code, done)
    return done["answer"][0, done["prompt"]["input_ids"].shape[1] :].tolist(), done["model"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows and a model in it, which are named from there; the model ends its texts otherwise."""
    home = tmp_path_factory.mktemp("home")
    folder_of(home / "tiny", max_position_embeddings=512, initializer_range=0.05, eos_token_id=256)
    rows = [{"instruction": f"Repeat the word {i}.", "output": "ok"} for i in range(80)]
    (home / "rows.json").write_text(json.dumps(rows))
    return home


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        more = ["train.max_steps=60", "train.epochs=10", "train.evaluate_every=60", "train.keep=last"]
        return Run(home / trained("tiny", Path("rows.json"), Path("runs/a"), *more).path)


def test_a_runs_adapter_finds_its_base_from_any_folder(
    run: Run, home: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    second = trained("runs/a", rows_file, tmp_path / "second")
    assert base_named_in(second.adapter) == str(run.model)
    monkeypatch.chdir(tmp_path)
    ids = torch.arange(40)[None]
    for stage in (run, second):
        beside = AutoPeftModelForCausalLM.from_pretrained(stage.adapter).eval()
        merged = AutoModelForCausalLM.from_pretrained(stage.model).eval()
        with torch.no_grad():
            torch.testing.assert_close(beside(ids).logits, merged(ids).logits, atol=1e-4, rtol=0)


def test_an_exported_adapter_answers_on_its_base_elsewhere_as_the_run_does(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = torch.get_rng_state()
    made = pipeline.export(run, adapter=True, out="alone")
    assert torch.equal(torch.get_rng_state(), numbers)  # the caller's own
    card = ModelCard.load(made.path / "README.md")
    assert (card.data.library_name, card.data.base_model) == ("peft", None)
    assert "merged" not in card.text
    answers = pipeline.generate(run, QUESTIONS, settings={"generate.max_tokens": 256})
    assert {answer.finish_reason for answer in answers} == {"stop"}
    for question, answer in zip(QUESTIONS, answers, strict=True):
        ids, model = used_as_the_card_says(made.path, question, str(home / "tiny"))
        assert ids[:-1] == list(answer.token_ids)
    with torch.no_grad(), model.disable_adapter():  # the base itself says other things
        assert model.generate(torch.tensor([ids]), max_new_tokens=9)[0, len(ids) :].tolist() != ids[:9]


@pytest.mark.parametrize("named", [None, "runs/ok/model"])
def test_an_exported_adapter_tells_of_its_base_without_a_path(
    run: Run, home: Path, named: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the run's own adapter names, as those of earlier versions do."""
    shutil.copytree(run.path, tmp_path / "run")
    described = tmp_path / "run/adapter/adapter_config.json"
    if named is not None:
        described.write_text(json.dumps(json.loads(described.read_text()) | {"base_model_name_or_path": named}))
    with pytest.raises(SystemExit) as end:
        main(["export", str(tmp_path / "run"), "--to", "hf", "--adapter", "--out", str(tmp_path / "alone")])
    told = " ".join(capsys.readouterr().out.split())
    assert not end.value.code
    assert base_named_in(tmp_path / "alone") == "tiny (must be supplied)"
    fingerprint = run.provenance()["fingerprint"]["model"]
    needed = (
        "The base model is not included and must be supplied: it was tiny, with weights of the fingerprint "
        f"{fingerprint}; an export without --adapter needs no base."
    )
    receipt = json.loads((tmp_path / "alone/export_receipt.json").read_text())
    assert receipt["base"] == {"name": "tiny", "fingerprint": fingerprint, "needed": needed}
    assert needed in told and needed in (tmp_path / "alone/README.md").read_text()
    for file in (tmp_path / "alone").iterdir():
        assert str(home.parent).encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("folder", "typed", "name"),
    [
        ("runs/a/more", "..", "a"),
        ("runs/a", ".", "a"),
        (".", "runs/a/model", "a"),
        ("tiny/more", "..", "tiny"),
        ("tiny", ".", "tiny"),
        (".", "gpt2", "gpt2"),
    ],
)
def test_a_base_that_must_be_supplied_is_named_as_no_other_model(
    folder: str, typed: str, name: str, run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by `..` nor by what a hub has under the same name, and peft looks for it nowhere."""
    shutil.copytree(home / "tiny", home / "gpt2", dirs_exist_ok=True)
    (home / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(home / folder)
    made = pipeline.export(trained(typed, home / "rows.json", tmp_path / "run"), adapter=True)
    monkeypatch.chdir(tmp_path)  # where the name was typed is known
    assert base_named_in(made.path) == f"{name} (must be supplied)"
    assert made.receipt["base"]["name"] == name
    assert f"A LoRA adapter for {name}, trained on rows.json" in (made.path / "README.md").read_text()
    for offline in (True, False):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(OSError, match="Repo id must use"):
            AutoPeftModelForCausalLM.from_pretrained(made.path)


def test_an_exported_adapter_names_a_base_of_the_hub(
    tiny_folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is here what was downloaded of it before."""
    repository = tmp_path / "hub/models--org--tiny"
    shutil.copytree(tiny_folder, repository / "snapshots/0")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    run = trained("org/tiny", rows_file, tmp_path / "run")
    assert base_named_in(run.adapter) == "org/tiny"
    made = pipeline.export(run, adapter=True)
    assert base_named_in(made.path) == "org/tiny"
    assert made.receipt["base"] == {"name": "org/tiny", "fingerprint": run.provenance()["fingerprint"]["model"]}
    card = ModelCard.load(made.path / "README.md")
    assert (card.data.base_model, card.data.base_model_relation) == ("org/tiny", "adapter")
    assert "must be supplied" not in card.text
    used_as_the_card_says(made.path, "Name a fruit.")
