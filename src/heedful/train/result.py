"""What a training leaves behind: the run's model, and with LoRA the adapter alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from heedful.encode.prompt_receipt import PROMPT_RECEIPT, prompt_receipt
from heedful.errors import Diverged
from heedful.model import pretrained, saving
from heedful.model.adapters import adapt, merge
from heedful.model.vocabulary import fit_vocabulary
from heedful.system.heap import give_back_pages
from heedful.train import checkpoint
from heedful.train.session import Session


def write_model(session: Session, before: Callable[[], None] = lambda: None) -> None:
    """Write the run's model folder: the best or the last weights, adapters merged in, and how they were prompted.

    `before` is called once all is on the disk, just before the folder takes its place.
    """
    masters = session.learner.weights()
    if not session.ranks.is_leader:
        return
    _check_finite(session)
    give_back_pages()  # of activations and gradients, before the weights are written in fp32
    run = session.run
    if session.config.train.keep == "best" and session.losses:
        masters = _best(session) or masters
    model = _tuned(session, masters)
    tokenizer, encoder = session.tokenizer, session.ready.encoder
    tokenizer.chat_template = encoder.template.source
    model.generation_config = saving.generation_config(tokenizer, encoder.stop_ids)
    saving.save(model, tokenizer, run.model, {PROMPT_RECEIPT: prompt_receipt(encoder)}, before)
    checkpoint.prune(run.checkpoints, kept_steps=1)  # the run is whole; one is enough to train on from


def _check_finite(session: Session) -> None:
    """Refuse to write a model of which it is known that it diverged; a loss that never was finite tells nothing."""
    before, *losses = session.losses or [math.inf]
    kept = losses if session.config.train.keep == "best" else losses[-1:]
    if math.isfinite(before) and kept and not any(map(math.isfinite, kept)):
        raise Diverged("The training diverged: its validation loss is not finite, so there is no model to keep.")


def _best(session: Session) -> dict[str, torch.Tensor] | None:
    """Read the weights of the lowest validation loss, if any are kept; say where there are none, or no better."""
    before, *losses = session.losses
    if not losses:
        session.display.say("Nothing was validated since the first update: the last weights become the model.")
        return None
    if not any(map(math.isfinite, session.losses)):
        session.display.say("No validation loss is finite: the last weights become the model.")
        return None
    if min(losses) >= before:
        session.display.say(
            "No validation was better than the one before training: lower train.lr, or look at the data."
        )
    best = checkpoint.best(session.run.checkpoints)
    if best is None:
        session.display.say("The best weights are not in checkpoints/ any more: the last ones become the model.")
        return None
    checkpoint.verify(best)
    weights: dict[str, torch.Tensor] = load_file(best / "model.safetensors")
    return weights


def _tuned(session: Session, masters: dict[str, torch.Tensor]) -> PreTrainedModel:
    """Return the tuned model in fp32; adapters are merged into the base's own weights, which bf16 rounded."""
    learner, config = session.learner, session.config
    lora, model = config.train.method == "lora", learner.model
    rounded = lora and (model.dtype != torch.float32 or config.train.quantize == "nf4")
    if learner.sharded or rounded:
        if model.dtype == torch.bfloat16 and not learner.sharded:
            for weight in model.parameters():  # the narrow base has done its work, and makes room for the wide one
                weight.data = weight.data.new_empty(0)
        loaded = pretrained.load(session.origin, config.model.dropout)
        fit_vocabulary(loaded, session.tokenizer)
        model = adapt(loaded.model, config.train) if lora else loaded.model
    parameters = dict(model.named_parameters())
    for name, master in masters.items():
        parameters[name].data = master.to(parameters[name].device)
    if lora:
        model.peft_config["default"].base_model_name_or_path = session.origin
        with saving.written_whole(session.run.adapter) as folder:
            # peft would ask the base's hub whether they grew, were it not told that no embeddings are to be saved
            model.save_pretrained(folder, save_embedding_layers=False)
        model = merge(model)
    return model
