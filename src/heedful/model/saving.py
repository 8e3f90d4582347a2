"""A model that is written: a clean Hugging Face folder, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers  # lazy, as in pretrained.py
from safetensors import SafetensorError

from heedful.errors import ModelError
from heedful.system.atomic import advice, whole_folder

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


def generation_config(tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> GenerationConfig:
    """Say what ends an answer, and no more: how the base was sampled is not how the tuned model was evaluated."""
    return transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=sorted(stop_ids), pad_token_id=tokenizer.pad_token_id
    )


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    extra: dict[str, Any] | None = None,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write a Hugging Face folder as `written_whole` does; `extra` holds further JSON files by name."""
    with written_whole(folder, before) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for name, value in (extra or {}).items():
            (temporary / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def written_whole(folder: Path, before: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Do as `whole_folder` does, and raise ModelError where it cannot be written."""
    try:
        with whole_folder(folder, before) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"Cannot write the model to {folder}: {reason}.", advice(error)) from error
