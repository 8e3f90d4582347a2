"""Are the weights of a folder those of its model, all of them, and will those of the tuned model be?

What a folder lacks transformers draws at random without a word, and what it saves it may not know again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers  # lazy, as in pretrained.py

from heedful.errors import ModelError, reason_of, typed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_files(folder: Path) -> None:
    """Raise ModelError unless there are files of weights that we may read; transformers would call others missing."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        fix = "Its weights are pickled; convert them to safetensors." if pickled else ""
        raise ModelError(f"{folder} holds no .safetensors weights.", fix)
    for file in files:
        try:
            os.close(os.open(file, os.O_RDONLY))
        except FileNotFoundError:  # a link that leads nowhere, which may not be needed
            continue
        except PermissionError as error:
            problem = f"{file} may not be read: {error.strerror}."
            raise ModelError(problem, f"Let its owner run chmod a+r {typed(file)}.") from error


def check_read(model: PreTrainedModel, report: dict[str, Any], name: str) -> None:
    """Raise ModelError unless transformers' report of a loading says that every weight was there, in its shape."""
    kind = type(model).__name__
    if report["mismatched_keys"]:
        weight, theirs, ours = sorted(report["mismatched_keys"])[0]
        raise ModelError(
            f"{name}: the weights are not those of a {kind} as config.json describes it: {weight} has the shape "
            f"{list(theirs)} instead of {list(ours)}.",
            "Save weights and configuration again, together.",
        )
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1:,} more are" if len(missing) > 1 else " is"
        raise ModelError(
            f"{name}: the weights are not those of a {kind}, or not all of them: {missing[0]}{more} missing.",
            "Choose a folder that a causal language model was saved in.",
        )


def check_written(model: PreTrainedModel, added: int, name: str) -> None:
    """Raise ModelError unless the configuration, as it is saved, describes these weights to transformers.

    Asked on torch's meta device, of a model without numbers, before the training that would be in vain. `added` tells
    how many tokens the vocabulary grew by.
    """
    described = {**model.config.to_dict(), "quantization_config": None}  # what is saved is not quantised
    try:
        with torch.device("meta"):
            config = transformers.AutoConfig.for_model(described.pop("model_type"), **described)
            again = transformers.AutoModelForCausalLM.from_config(config)
    except Exception as error:  # libraries raise anything here, from ValueError to their own
        reason, fix = reason_of(error.__cause__ or error), "Choose another model."
        if type(model.config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            reason = f"{model.config.model_type} is no type of causal language models there"
            fix = "Choose a model of text alone."
        raise ModelError(f"{name}: transformers could not load the tuned model: {reason}.", fix) from error
    theirs, ours = (dict(each.named_parameters(remove_duplicate=False)) for each in (again, model))
    wrong = theirs.keys() ^ ours.keys()
    once, saved = ({weight for weight, _ in each.named_parameters()} for each in (again, model))
    wrong |= once - saved  # growing may tie what the configuration does not (BERT's bias): saved under one name
    for weight in theirs.keys() & ours.keys():
        if ours[weight].is_floating_point() and theirs[weight].shape != ours[weight].shape:  # not packed in 4 bits
            wrong.add(weight)
    if wrong:
        kind = model.config.model_type
        grown = f" with {added} added tokens" if added else ""
        raise ModelError(
            f"{name}: transformers could not load the tuned model{grown}: {min(wrong)} is another in a {kind} of its "
            "configuration.",
            "Choose --set encode.template=alpaca, which adds none." if added else "Choose another model.",
        )
