"""The tutorial's recipe with the exact GPT-2 tokenizer, from a folder as save_pretrained writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import heedful
from tests.encode.encoders import gpt2_tokenizer
from tests.models import tiny_model

RECIPE = Path(__file__).parent.parent / "recipes" / "gpt2-alpaca.yaml"


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = gpt2_tokenizer()
    ends = {"bos_token_id": 50256, "eos_token_id": 50256}
    tiny_model("gpt2", vocab_size=len(tokenizer), n_positions=1024, **ends).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_recipe_encodes_as_the_tutorial_does(gpt2_folder: Path) -> None:
    ready = heedful.check("builtin", model=str(gpt2_folder), recipe=str(RECIPE))
    tokenizer = gpt2_tokenizer()
    rows = json.loads((Path(heedful.__file__).parent / "data/builtin/en.json").read_text(encoding="utf-8"))
    texts = [
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        f"\n\n### Instruction:\n{row['instruction']}"
        + (f"\n\n### Input:\n{row['input']}" if row["input"] else "")
        + f"\n\n### Response:\n{row['output']}"
        for row in rows
    ]
    count = int(len(rows) * 0.85)
    assert len(ready.train) == count
    assert [e.ids.tolist() for e in ready.train] == [[*tokenizer(t)["input_ids"], 50256] for t in texts[:count]]
    assert all(example.supervised[1:].all() for example in ready.train)


def test_the_batches_are_those_of_a_data_loader_with_the_tutorials_seed(gpt2_folder: Path) -> None:
    import torch
    from torch.utils.data import DataLoader

    ready = heedful.check("builtin", model=str(gpt2_folder), recipe=str(RECIPE))
    torch.manual_seed(123)
    texts = [example.ids[:-1].tolist() for example in ready.train]
    loader = DataLoader(
        texts, batch_size=8, shuffle=True, drop_last=True, collate_fn=lambda batch: max(map(len, batch))
    )  # type: ignore[arg-type]
    widths = list(loader)
    assert ready.receipt["encoding"]["batch_widths"] == widths
    assert len(widths) == len(ready.train) // 8


def test_the_recipe_trains_answers_and_plots(gpt2_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    settings = {"train.max_steps": 6, "generate.max_tokens": 8}
    run = heedful.train(
        str(rows_file), model=str(gpt2_folder), recipe=str(RECIPE), settings=settings, out=tmp_path / "run"
    )
    events = run.metrics()
    assert [e["step"] for e in events if e["event"] == "validation"] == [0, 5, 6]
    assert all("train_loss" in e for e in events if e["event"] == "validation")
    assert [e["lr"] for e in events if e["event"] == "step"] == [5e-5] * 6
    assert any(e["event"] == "sample" for e in events)
    assert run.loss_plot.is_file()
    assert len(json.loads(run.responses_file.read_text(encoding="utf-8"))) == 8
    engine = heedful.load(run)
    assert engine.prompter.tokenizer.chat_template
