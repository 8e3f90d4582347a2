"""Run -> a folder that transformers, vLLM and others load as it is: the merged model, or the adapter alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from heedful.encode.prompt_receipt import PROMPT_RECEIPT
from heedful.encode.tokenise import Encoder
from heedful.errors import ExportError
from heedful.model import pretrained, saving
from heedful.report.card import adapter_base, card
from heedful.run import Run
from heedful.system.atomic import read_json, write_json

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CARD = "README.md"


def write_folder(source: Path, encoder: Encoder, kind: str, content: Path) -> None:
    """Write a run's model, whose adapters were merged in fp32, cast to `kind`."""
    model = pretrained.load(str(source)).model.to(DTYPES[kind])
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        raise ExportError(f"The model has weights beyond what {kind} can hold.", "Choose --quantize bf16.")
    model.generation_config = saving.generation_config(encoder.tokenizer, encoder.stop_ids)
    saving.save(model, encoder.tokenizer, content, {PROMPT_RECEIPT: read_json(source / PROMPT_RECEIPT)})
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, content / CARD)


def write_adapter(run: Run, encoder: Encoder, content: Path) -> None:
    """Write a run's adapter in peft's layout, with the tokenizer, the chat template and the stop tokens.

    A base that no hub has gets a name that no hub's id can be, or programs would load another model of the same name.
    """
    content.mkdir()
    for file in run.adapter.iterdir():
        if file.name != CARD:  # a form that peft leaves to be filled in
            shutil.copyfile(file, content / file.name)
    described, base = content / "adapter_config.json", adapter_base(run)
    name = f"{base['name']} (must be supplied)" if "needed" in base else base["name"]
    write_json(described, read_json(described) | {"base_model_name_or_path": name})
    encoder.tokenizer.save_pretrained(content)
    saving.generation_config(encoder.tokenizer, encoder.stop_ids).save_pretrained(content)
    shutil.copyfile(run.model / PROMPT_RECEIPT, content / PROMPT_RECEIPT)
    if run.receipt_file.is_file():
        (content / CARD).write_text(card(run, adapter=True), encoding="utf-8")
