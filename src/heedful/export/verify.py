"""The receipt of equality: an artefact is read back and held against the run. A difference is an ExportError.

Every precision rounds the weights, so each has its own bounds; where the rounding may turn a choice between two tokens
that the run found all but equally likely, the receipt counts a near tie and not a mistake.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel

from heedful.encode.prompt_receipt import open_encoder
from heedful.encode.tokenise import Encoder
from heedful.errors import ExportError
from heedful.export import llama_cpp
from heedful.export.reference import (
    ANSWER_TOKENS,
    Reference,
    agreement,
    divergence,
    largest_difference,
    scores,
)
from heedful.export.vocabulary import as_llama_cpp
from heedful.model import pretrained

Receipt = dict[str, Any]
MERGED, MERGED_SHARE = 1e-4, 1e-5  # of logits in fp32, adapters beside the base against adapters added into it;
# or of the largest logit, where that allows more: 8.9e-5 was seen on the default model, whose logits reach 36


@dataclass(frozen=True)
class Bounds:
    """What rounding to a precision may do: mean divergence in nats a token, and the margin of a near tie in logits.

    They follow the size of each rounding; with a tie of None answers are reported and not judged.
    """

    divergence: float
    tie: float | None


BOUNDS = {
    "f32": Bounds(1e-6, 2e-3),
    "f16": Bounds(1e-4, 0.05),
    "bf16": Bounds(5e-3, 0.4),
    "q8_0": Bounds(0.02, None),
    "q4_0": Bounds(1.0, None),
}
ARITHMETIC_TIE = 0.1  # llama.cpp keeps its cache in f16 and rounds what goes into each product


def merged_as_adapter(reference: Reference, base: PreTrainedModel, adapter: Path) -> Receipt:
    """Compare the adapters beside their base with the run's merged weights."""
    from peft import PeftModel

    with warnings.catch_warnings(), torch.random.fork_rng([]):  # peft draws adapters before it reads them
        warnings.simplefilter("ignore")  # peft calls deprecated parts of transformers
        found = scores(PeftModel.from_pretrained(base, str(adapter)).eval(), reference)
    difference = largest_difference(reference, found)
    allowed = max(MERGED, MERGED_SHARE * max(float(logits.abs().max()) for logits in found))
    if not difference <= allowed:
        raise ExportError(
            f"The merged weights do not compute what the adapter does: logits differ by {difference:.2g}.",
            f"At most {allowed:.1g} comes from rounding. Is {adapter} from this run, and its base unchanged?",
        )
    return {"adapter": {"checked": True, "largest_logit_difference": difference}}


def folder(reference: Reference, content: Path, kind: str) -> Receipt:
    """Read a Hugging Face folder back, and compare prompts and answers."""
    return {**prompts(reference, reopened(content)), **answers(reference, pretrained.load(str(content)).model, kind)}


def reopened(content: Path) -> Encoder:
    """Open an exported folder's tokenizer with the template that is stored there."""
    tokenizer = AutoTokenizer.from_pretrained(content, trust_remote_code=False)
    return open_encoder(content, tokenizer, tokenizer.model_max_length)


def prompts(reference: Reference, encoder: Encoder) -> Receipt:
    """Compare the prompts of every conversation."""
    for messages, ids in zip(reference.prompts, reference.ids, strict=True):
        if encoder.prompt_ids(messages) != ids:
            raise ExportError(f"The export formats a prompt differently from the run: {messages[-1].content!r}.")
    return {"prompts": {"conversations": len(reference.ids), "equal": len(reference.ids)}}


def answers(reference: Reference, model: PreTrainedModel, kind: str) -> Receipt:
    """Compare the next tokens along the run's answers, and refuse what rounding cannot explain."""
    bounds, found = BOUNDS[kind], scores(model, reference)
    apart = divergence(reference, found)
    agreed = agreement(reference, [each.argmax(-1).tolist() for each in found], bounds.tie or 0.0)
    if not apart["mean"] <= bounds.divergence or (bounds.tie is not None and agreed.different):
        raise ExportError(
            f"The export does not answer as the run does: {agreed.different} of {agreed.answers} answers differ, "
            f"{apart['mean']:.2g} nats a token apart.",
            "Nothing was written; "
            + ("please report it." if kind == "f32" else "if it is the rounding alone, --quantize f32 passes."),
        )
    return {
        "answers": asdict(agreed),
        "divergence": apart,
        "largest_logit_difference": largest_difference(reference, found),
    }


def gguf_by_transformers(reference: Reference, file: Path, config: PretrainedConfig, kind: str) -> Receipt:
    """Read a GGUF file back with transformers, and compare answers."""
    quiet = contextlib.redirect_stderr(io.StringIO())  # the reader's own progress bar
    with quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=str(file.resolve()), config=config, dtype=torch.float32
        )
    return answers(reference, model.eval(), kind)


def gguf_by_llama_cpp(reference: Reference, file: Path, encoder: Encoder, kind: str) -> Receipt:
    """Let llama.cpp tokenise and answer, if it is there; its way with spaces is known without it."""
    texts, backend = rendered(reference, encoder), as_llama_cpp(encoder.tokenizer)
    for text, ids in texts.items():
        if backend.encode(text, add_special_tokens=False).ids != ids:
            raise ExportError(f"llama.cpp would read a prompt's spaces differently: {text!r}.", "Use --to hf.")
    lacking = llama_cpp.missing()
    if lacking:
        return {"llama_cpp": {"checked": False, "reason": lacking}}
    said = llama_cpp.ask(file, list(texts), reference.question_ids, ANSWER_TOKENS, encoder.stop_ids)
    for (text, ids), theirs in zip(texts.items(), said.ids, strict=True):
        if theirs != ids:
            raise ExportError(f"llama.cpp tokenises a prompt differently from the run: {text!r}.")
    if set(said.stops) != encoder.stop_ids:
        unknown = encoder.tokenizer.convert_ids_to_tokens(sorted(encoder.stop_ids - set(said.stops)))
        raise ExportError(f"llama.cpp does not end an answer at {', '.join(unknown)}.")
    bounds = BOUNDS[kind]
    agreed = agreement(reference, said.answers, (bounds.tie or 0.0) + ARITHMETIC_TIE)
    if bounds.tie is not None and agreed.different:
        raise ExportError(
            f"llama.cpp answers {agreed.different} of {agreed.answers} questions differently from the run."
        )
    return {
        "llama_cpp": {
            "checked": True,
            "prompts": {"conversations": len(texts), "equal": len(texts)},
            "stop_tokens": len(said.stops),
            "answers": asdict(agreed),
        }
    }


def rendered(reference: Reference, encoder: Encoder) -> dict[str, list[int]]:
    """Return the prompts' texts with their ids; not those in which a user wrote a special token's name, which llama.cpp
    would read as the token, nor those whose turns heedful tokenises apart."""
    found = {}
    for messages, ids in zip(reference.prompts, reference.ids, strict=True):
        segments = list(chain.from_iterable(encoder.template.pieces(messages, add_generation_prompt=True)))
        text = "".join(segment.text for segment in segments)
        whole = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not any(segment.literal for segment in segments) and whole == ids:
            found[text] = ids
    return found


def told(receipt: Receipt) -> list[tuple[str, str]]:
    """Say a receipt in words."""
    lines = []
    difference = receipt.get("adapter", {}).get("largest_logit_difference")
    if difference is not None:
        lines.append(("merged as the adapter", f"logits within {difference:.1e}"))
    if "prompts" in receipt:
        lines.append(("prompts", f"{receipt['prompts']['equal']} conversations, the same tokens"))
    if "answers" in receipt:
        lines.append(("answers read back", _agreed(receipt["answers"])))
        lines.append(("divergence", "{mean:.2g} nats a token, at most {max:.2g}".format(**receipt["divergence"])))
    other = receipt.get("llama_cpp")
    if other and other["checked"]:
        lines.append(("llama.cpp's tokens", f"{other['prompts']['equal']} conversations, the same"))
        lines.append(("llama.cpp's answers", _agreed(other["answers"])))
    elif other:
        unchecked = "not asked, so header (head size, rope, eps) and tokenizer are not checked"
        lines.append(("llama.cpp", f"{unchecked}: {other['reason']}"))
    return lines


def _agreed(answers: dict[str, int]) -> str:
    parts = [f"{answers['equal']} of {answers['answers']} equal"]
    parts += [f"{answers['near_ties']} part at a near tie"] if answers["near_ties"] else []
    parts += [f"{answers['different']} differ"] if answers["different"] else []
    return ", ".join(parts)
