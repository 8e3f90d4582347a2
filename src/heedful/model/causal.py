"""Is this a causal language model as it is used here: earlier tokens see no later ones, positions count from 0?

Asked of the model itself, on a few tokens, when it is loaded: an architecture's name does not tell (BERT's family is
causal only with is_decoder), and a model that saw its own answers would learn to copy them without an error.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from heedful.errors import ModelError, reason_of
from heedful.model.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 5  # in a row
DRAWS = 3  # of tokens, all of which must fail: rounding may turn a router's choice, but not thrice
ATTENTION = {"attention", "full_attention", "sliding_attention"}  # layers that keep keys and values, and no more
REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError)  # of a forward
SEES_LATER = "are no causal language models: their earlier tokens see later ones"


def check(model: PreTrainedModel, name: str) -> None:
    """Raise ModelError unless the model is causal, counts positions from 0 and ignores padding."""
    kind = model.config.model_type
    if _carries_more(model):
        raise ModelError(
            f"{name}: {kind} models of this configuration carry more from token to token than keys and values (a "
            "recurrence, a convolution, a summary), so rows cannot be padded.",
            "Choose a transformer, which attends to its tokens instead.",
        )
    if kind == "reformer":
        raise ModelError(
            f"{name}: reformer models learn only from rows whose length is a multiple of their chunks'.",
            "Choose another model.",
        )
    try:
        for draw in range(DRAWS):
            if not (problem := _problem(model, draw)):
                return
    except REFUSALS as error:
        problem = f"{name}: {kind} cannot read tokens as a causal language model: {reason_of(error)}."
        raise ModelError(problem, "Choose another model.") from error
    encodes = problem == SEES_LATER and getattr(model.config, "is_decoder", None) is False
    decoder = '; one of BERT\'s kind that was trained as a decoder has "is_decoder": true in its config.json'
    raise ModelError(
        f"{name}: {kind} models of this configuration {problem}.",
        f"Choose another model{decoder if encodes else ''}.",
    )


def _carries_more(model: PreTrainedModel) -> bool:
    """Say whether a row's past is more than keys and values: transformers' word for a family's cache, but for models
    of it that have layers of attention alone (Granite 4.0 without Mamba)."""
    layers = getattr(model.config.get_text_config(), "layer_types", None) or [""]
    return bool(getattr(model, "_is_stateful", False)) and not ATTENTION.issuperset(layers)


def _problem(model: PreTrainedModel, seed: int) -> str:
    """Say what is wrong with the logits of a row, of the same with another last token, and of the same with padding
    in its place; nothing if they are right."""
    vocabulary = vocabulary_size(model)
    ids = torch.randint(vocabulary, (1, TOKENS), generator=torch.Generator().manual_seed(seed)).repeat(3, 1)
    ids[1:, -1] = (ids[0, -1] + 1) % vocabulary
    ids = ids.to(model.device)
    positions, real = torch.arange(TOKENS, device=ids.device).expand_as(ids), torch.ones_like(ids)
    real[2, -1] = 0
    with torch.inference_mode():
        own = model(input_ids=ids[:2], use_cache=False).logits.float()
        ours = model(input_ids=ids, position_ids=positions, attention_mask=real, use_cache=False).logits.float()
        alone = model(input_ids=ids[:1, :-1], use_cache=False).logits.float()
    most = tolerance(model) * own.abs().max()
    if (own[0, :-1] - own[1, :-1]).abs().max() > most:
        return SEES_LATER
    if (ours[:2] - own).abs().max() > most:
        return "count positions otherwise than from 0, as every batch here does"
    if (ours[2, :-1] - alone[0]).abs().max() > most:
        return "compute a row that is padded otherwise than alone"
    return ""


def tolerance(model: PreTrainedModel) -> float:
    """Return up to which difference logits count as the same, as a share of the largest one.

    Rounding stays below 1e-5 in fp32, and about 1e-2 in bf16, in which the layers of a quantised model compute too; a
    wrong mask is above 1e-1.
    """
    narrow = model.dtype != torch.float32 or getattr(model, "is_quantized", False)
    return 5e-2 if narrow else 1e-3


def takes(model: torch.nn.Module, parameter: str) -> bool:
    """Say whether the architecture's forward has this parameter (adapters around it pass everything on)."""
    base: Any = model
    kind: Any = type(base.get_base_model() if hasattr(model, "get_base_model") else base)
    return parameter in _parameters(kind)


@cache
def _parameters(kind: Any) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)
