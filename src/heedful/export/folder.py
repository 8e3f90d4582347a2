"""Run -> a folder that transformers, vLLM and others load as it is: the merged model, or the adapter alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig

from heedful import model as models
from heedful.encode.receipt import FILE as PROMPT_RECEIPT
from heedful.encode.tokenise import Encoder
from heedful.errors import ExportError
from heedful.run import Run, read_json

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CARD = "README.md"


def write_folder(source: Path, encoder: Encoder, kind: str, content: Path) -> None:
    """Write a run's model, whose adapters were merged in fp32, cast to `kind`."""
    model = models.load(str(source)).model.to(DTYPES[kind])
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        raise ExportError(f"The model has weights beyond what {kind} can hold.", "Choose --quantize bf16.")
    model.generation_config = _generation(source, encoder)
    models.save(model, encoder.tokenizer, content, {PROMPT_RECEIPT: read_json(source / PROMPT_RECEIPT)})
    _copy_card(source, content)


def write_adapter(run: Run, encoder: Encoder, content: Path) -> None:
    """Write a run's adapter in peft's layout, with the tokenizer, the chat template and the stop tokens."""
    content.mkdir()
    for file in (run.path / "adapter").iterdir():
        if file.name != CARD:  # a form that peft leaves to be filled in
            shutil.copyfile(file, content / file.name)
    encoder.tokenizer.save_pretrained(content)
    _generation(run.model, encoder).save_pretrained(content)
    shutil.copyfile(run.model / PROMPT_RECEIPT, content / PROMPT_RECEIPT)
    _copy_card(run.model, content)


def _generation(source: Path, encoder: Encoder) -> GenerationConfig:
    """Give the settings of generation with every stop token."""
    config = GenerationConfig.from_pretrained(source)
    config._from_model_config = False  # what is derived may be derived again, and would lose the stop tokens
    config.eos_token_id = sorted(encoder.stop_ids)
    config.pad_token_id = encoder.tokenizer.pad_token_id
    return config


def _copy_card(source: Path, content: Path) -> None:
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, content / CARD)
