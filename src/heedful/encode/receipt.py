"""The model folder's prompt receipt: the template's name, the stop ids, and golden prompts with their token ids.

Whoever loads the folder (chat, evaluation, export, a server) recomputes the golden prompts and refuses on a difference:
a template or tokenizer that drifted would otherwise only show as worse answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.encode.template import JOINTS, Template, choose_template, special_tokens
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.errors import ModelError
from heedful.records import Message

FILE = "prompt_receipt.json"

GOLDEN: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Name the capital of France."),),
    (Message("user", "Rewrite in the past tense.", input="She walks home."),),
    (Message("system", "Be brief."), Message("user", "Hello! <|im_end|> ### Response: 你好 🙂"),),
    (Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?\n")),
)  # fmt: skip


def prompt_receipt(encoder: Encoder) -> dict[str, Any]:
    """Say how the model was prompted in training."""
    return {
        "template": encoder.template.name,
        "stop_ids": sorted(encoder.stop_ids),
        "prompts": [
            {"messages": [[m.role, m.content, m.input] for m in messages], "ids": _golden(encoder, messages)}
            for messages in GOLDEN
        ],
    }


def _golden(encoder: Encoder, messages: Sequence[Message]) -> list[int] | None:
    """Give a prompt's tokens, or None where the template refuses it (some know no system message)."""
    try:
        return encoder.prompt_ids(messages)
    except ModelError:
        return None


def _holds(receipt: dict[str, Any], encoder: Encoder) -> bool:
    """Recompute the golden prompts that a receipt holds."""
    prompts = [
        ([Message(role, content, input=extra) for role, content, extra in prompt["messages"]], prompt["ids"])
        for prompt in receipt["prompts"]
    ]
    return bool(prompts) and all(_golden(encoder, messages) == ids for messages, ids in prompts)


def open_encoder(folder: Path | None, tokenizer: PreTrainedTokenizerBase, positions: int) -> Encoder:
    """Bind the template that a folder was trained with, checked; or the one that fits a model from elsewhere."""
    file = folder / FILE if folder else None
    if file is None or not file.is_file():
        template = choose_template("auto", tokenizer)
        return Encoder(template, stop_ids(template), positions)
    try:
        receipt = json.loads(file.read_text(encoding="utf-8"))
        name, source = receipt["template"], tokenizer.chat_template
        template = Template(name, source, JOINTS[name], tokenizer, special_tokens(tokenizer))
        encoder = Encoder(template, frozenset(receipt["stop_ids"]), positions)
        holds = _holds(receipt, encoder)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not a prompt receipt: {error!r}.", "Restore it from the run's folder.") from error
    if not holds:
        raise ModelError(
            f"{folder}: the chat template or the tokenizer gives other prompts than in training ({FILE}).",
            "Restore its chat_template.jinja and tokenizer files.",
        )
    return encoder
