"""Low-rank adapters (LoRA): which weights get them, and how they become part of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from heedful.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUTERS = {"gate", "router"}  # in a model of experts, what chooses them
# Layers that peft takes for experts in many such models, also where they are none: it is given their weights instead.
RENAMED = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}


def adapt(model: PreTrainedModel, config: TrainConfig) -> PreTrainedModel:
    """Freeze the weights and put low-rank adapters beside the `adapted` ones."""
    from peft import LoraConfig, get_peft_model

    layers, parameters = adapted(model)
    adapters = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=_by_endings(layers, model),
        target_parameters=parameters or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(config.seed)
    with warnings.catch_warnings():  # peft calls deprecated parts of transformers
        warnings.simplefilter("ignore")
        found: PreTrainedModel = get_peft_model(model, adapters)
    return found


def adapted(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    """Name what gets adapters: linear layers but the head and routers, and parameters that hold a matrix an expert."""
    parts, head = dict(model.named_modules()), model.get_output_embeddings()
    owners = {name: type(parts[name.rpartition(".")[0]]).__module__ for name, _ in model.named_parameters()}
    sizes = {name: p.shape for name, p in model.named_parameters() if owners[name].startswith("transformers.models.")}
    experts = [name for name, size in sizes.items() if len(size) == 3 and size[0] > 1]
    routed = any("experts" in name.split(".") for name in parts)
    layers = {
        name: part
        for name, part in parts.items()
        if isinstance(part, torch.nn.Linear | Conv1D) and part is not head
        if not (routed and ROUTERS & {*name.split(".")})
    }
    renamed = {name for name in layers if experts and name.rpartition(".")[2] in RENAMED}
    whole = [f"{name}.weight" for name in layers if name in renamed and layers[name].weight.is_floating_point()]
    return [name for name in layers if name not in renamed], experts + whole


def _by_endings(names: Collection[str], model: PreTrainedModel) -> list[str]:
    """Name layers by the last part of their names, as other tools expect it, where that tells them from all others."""
    endings = {name.rpartition(".")[2] for name in names}
    told = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in endings}
    return sorted(endings if told == set(names) else names)


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Add the adapters into the weights; the model is changed."""
    merged: PreTrainedModel = model.merge_and_unload()
    return merged
