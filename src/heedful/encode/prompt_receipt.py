"""The model folder's prompt receipt: the template with its hash, the stop ids, golden prompts with their token ids.

Whoever loads the folder (chat, evaluation, export, a server) recomputes the golden prompts and refuses on a difference,
naming what changed: a template or tokenizer that drifted would otherwise only show as worse answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.config import EncodeConfig
from heedful.encode.segments import VERSION
from heedful.encode.template import JOINTS, Template, special_tokens
from heedful.encode.tokenise import Encoder, build_encoder
from heedful.errors import ModelError
from heedful.records import Conversation, Message, Place

PROMPT_RECEIPT = "prompt_receipt.json"

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
        "template_sha256": _hash(encoder.template.source),
        "stop_ids": sorted(encoder.stop_ids),
        "tokenisation": VERSION,
        "prompts": [
            {"messages": [[m.role, m.content, m.input] for m in messages], "ids": _golden(encoder, messages)}
            for messages in GOLDEN
        ],
    }


def _golden(encoder: Encoder, messages: Sequence[Message]) -> list[int] | None:
    """Return a prompt's tokens, or None where the template refuses it (some know no system message)."""
    try:
        return encoder.prompt_ids(messages)
    except ModelError:
        return None


def _changed(receipt: dict[str, Any], encoder: Encoder, folder: Path) -> str:
    """Say what a folder has otherwise than in training; "" if all is the same."""
    if receipt["template_sha256"] != _hash(encoder.template.source):
        return "chat_template.jinja is not the chat template of training"
    for prompt in receipt["prompts"]:
        messages = [Message(role, content, input=extra) for role, content, extra in prompt["messages"]]
        if "tokenisation" not in receipt and _differs_in_first(encoder, messages):
            continue
        if _golden(encoder, messages) != prompt["ids"]:
            shown = messages[-1].content
            return f"the tokenizer or the chat template gives other prompts than in training, as for {shown!r}"
    settings = folder / "generation_config.json"
    stops = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id") if settings.is_file() else None
    if stops is not None and {*(stops if isinstance(stops, list) else [stops])} != encoder.stop_ids:
        return "generation_config.json has other stop tokens than in training"
    return "" if receipt["prompts"] else "the receipt holds no prompts"


def _differs_in_first(encoder: Encoder, messages: Sequence[Message]) -> bool:
    """Say whether tokenisation 1 may give other tokens: behind a special token's name, or in an answer cut apart."""
    if any(name in text for m in messages for text in (m.content, m.input) for name in encoder.template.special):
        return True
    turns = tuple(messages[:-1])  # none, or a system message alone, have no answer
    answered = Conversation("", turns, Place(PROMPT_RECEIPT, 0))
    return encoder.encode([answered])[1].cut_in_pieces > 0


def _hash(source: str) -> str:
    """Hash a template's source; Jinja does not see a line feed at its end."""
    return hashlib.sha256(source.removesuffix("\n").encode()).hexdigest()


def open_encoder(folder: Path, tokenizer: PreTrainedTokenizerBase, positions: int) -> Encoder:
    """Bind the template that a folder was trained with, checked; or the one that fits a model from elsewhere."""
    file = folder / PROMPT_RECEIPT
    if not file.is_file():
        return build_encoder(EncodeConfig(), tokenizer, positions)
    try:
        receipt = json.loads(file.read_text(encoding="utf-8"))
        name, source = receipt["template"], tokenizer.chat_template or ""
        template = Template(name, source, JOINTS[name], tokenizer, special_tokens(tokenizer))
        encoder = Encoder(template, frozenset(receipt["stop_ids"]), positions)
        changed = _changed(receipt, encoder, folder)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not a prompt receipt: {error!r}.", "Restore it from the run's folder.") from error
    if changed:
        raise ModelError(f"{folder}: {changed} ({PROMPT_RECEIPT}).", "Restore the folder's files, or train again.")
    return encoder
