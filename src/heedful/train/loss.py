"""The one definition of the loss: what training differentiates, what validation adds up, what scores rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from heedful import kernels
from heedful.model.causal import takes
from heedful.records import Batch, SupervisedTokens

NODES = 64  # whose logits are handled together


def summed_nll(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Sum the weighted negative log-likelihood, in nats, over a batch's predictions."""
    return (prediction_nll(model, batch) * batch.predictions.weight).sum()


def example_nll(supervised: SupervisedTokens, nll: torch.Tensor) -> list[float]:
    """Sum a batch's [predictions] for each example, in the order of its ids, over its supervised tokens alone."""
    found = nll.double().cpu().numpy()
    sums = np.bincount(supervised.example, weights=found[supervised.prediction], minlength=len(supervised.ids))
    return list(sums.tolist())


def prediction_nll(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Return the negative log-likelihood, in nats, of each prediction, [predictions].

    Logits are asked for only at the nodes that predict something. With z(n) = logsumexp of node n's logits, a
    prediction (n -> t) costs z(n) - logits[n, t], so a node with several next tokens is normalised once.
    """
    nodes, of = torch.unique(batch.predictions.source, return_inverse=True)
    logits = logits_at(model, batch, nodes)  # [nodes, vocabulary]
    nll: torch.Tensor = _NodeNll.apply(logits, of, batch.predictions.target)  # type: ignore[no-untyped-call]
    return nll


class _NodeNll(torch.autograd.Function):
    """z[of] - logits[of, target] in fp32, z = logsumexp(logits); without a copy of the logits, as they are wide."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, of: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if kernels.has(logits.dtype, logits.device):
            logits, z = logits.contiguous(), torch.empty(len(logits))
            kernels.call("logsumexp", logits, z, *logits.shape)
        else:
            z = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, NODES)])
        ctx.save_for_backward(logits, z, of, target)
        return z[of] - logits[of, target].float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """d nll / d logits = softmax(logits) - 1 at the target, summed over a node's predictions."""
        logits, z, of, target = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_node = torch.zeros_like(z).index_add_(0, of, gradient)
        to_logits = torch.empty_like(logits)
        if kernels.has(logits.dtype, logits.device):
            ordered, order = of.sort()
            starts = torch.searchsorted(ordered, torch.arange(len(logits) + 1))
            kernels.call("nll_back", logits, z, of_node, starts, order, target, gradient, to_logits, *logits.shape)
            return to_logits, None, None
        for start in range(0, len(logits), NODES):
            some = slice(start, start + NODES)
            softmax = (logits[some].float() - z[some, None]).exp_().mul_(of_node[some, None])
            here = (of >= start) & (of < start + NODES)
            softmax.index_put_((of[here] - start, target[here]), -gradient[here], accumulate=True)
            to_logits[some] = softmax
        return to_logits, None, None


def logits_at(model: PreTrainedModel, batch: Batch, nodes: torch.Tensor) -> torch.Tensor:
    """Run the model; give the logits [nodes, vocabulary] at these positions of the flattened batch."""
    some = len(batch.input_ids) == 1 and takes(model, "logits_to_keep")
    output = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=batch.attention,
        use_cache=False,
        **({"logits_to_keep": nodes} if some else {}),
    )
    logits: torch.Tensor = output.logits.flatten(0, 1)
    return logits if some else logits[nodes]
