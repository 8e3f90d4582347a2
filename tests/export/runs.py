"""Finished runs of tiny random models, as `heedful train` leaves them, and where llama.cpp is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models import tiny_model
from transformers import PreTrainedTokenizerBase

from heedful.encode.prompt_receipt import PROMPT_RECEIPT, prompt_receipt
from heedful.encode.template import choose_template
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.export import llama_cpp
from heedful.model import saving
from heedful.run import Run
from heedful.settings import dump_config, load_config
from heedful.system.atomic import write_json

GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] }}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
SIZES = {"max_position_embeddings": 512, "n_positions": 512}
needs_llama_cpp = pytest.mark.skipif(bool(llama_cpp.missing()), reason=f"llama.cpp: {llama_cpp.missing()}")


def make_run(
    path: Path, kind: str, tokenizer: PreTrainedTokenizerBase, template: str = "chatml", **changes: Any
) -> Run:
    """Make the folder of a finished run."""
    if "<start_of_turn>" in tokenizer.get_vocab():
        tokenizer.chat_template, template = GEMMA, "own"
    chosen = choose_template(template, tokenizer)  # type: ignore[arg-type]
    encoder = Encoder(chosen, stop_ids(chosen), 512)
    tokenizer.chat_template = chosen.source
    model = tiny_model(
        kind, **{**SIZES, "vocab_size": len(tokenizer) + 5, "eos_token_id": sorted(encoder.stop_ids), **changes}
    )
    with torch.no_grad():
        for vector in (parameter for parameter in model.parameters() if parameter.ndim == 1):
            vector += torch.linspace(-0.2, 0.2, len(vector))  # biases are 0 and norms 1 at first: none may be lost
    model.generation_config.eos_token_id = sorted(encoder.stop_ids)
    run = Run(path)
    path.mkdir(parents=True)
    saving.save(model, tokenizer, run.model, {PROMPT_RECEIPT: prompt_receipt(encoder)})
    config = load_config(None, {"data.path": str(path / "gone.json"), "encode.template": template})
    run.config_file.write_text(dump_config(config), encoding="utf-8")
    write_json(run.provenance_file, {"model": str(run.model)})
    return run
