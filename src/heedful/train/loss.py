"""The one definition of the loss: what training differentiates, what validation adds up, what scores rest on."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from heedful.records import Batch


def summed_nll(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Sum the weighted negative log-likelihood, in nats, over a batch's predictions."""
    return (prediction_nll(model, batch) * batch.predictions.weight).sum()


def prediction_nll(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Give the negative log-likelihood, in nats, of each prediction, [predictions].

    Logits are asked for only at the nodes that predict something. With z(n) = logsumexp of node n's logits, a
    prediction (n -> t) costs z(n) - logits[n, t], so a node with several next tokens is normalised once.
    """
    nodes, of = torch.unique(batch.predictions.source, return_inverse=True)
    logits = logits_at(model, batch, nodes).float()  # [nodes, vocabulary]
    return torch.logsumexp(logits, dim=-1)[of] - logits[of, batch.predictions.target]


def logits_at(model: PreTrainedModel, batch: Batch, nodes: torch.Tensor) -> torch.Tensor:
    """Run the model; give the logits [nodes, vocabulary] at these positions of the flattened batch."""
    some = len(batch.input_ids) == 1 and takes_positions(model)
    output = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=batch.attention,
        use_cache=False,
        **({"logits_to_keep": nodes} if some else {}),
    )
    logits: torch.Tensor = output.logits.flatten(0, 1)
    return logits if some else logits[nodes]


def takes_positions(model: torch.nn.Module) -> bool:
    """Say whether the architecture can be asked for the logits of some positions alone."""
    inner: Any = getattr(model, "module", model)  # DistributedDataParallel
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # peft
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
