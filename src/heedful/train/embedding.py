"""The input embedding's gradient: a few rows, added where they belong, instead of a dense matrix of zeros around them.

A step looks up some hundred tokens of a vocabulary of fifty thousand. torch makes a gradient of the whole table for
that, and adds it to the one of the output layer where the two share their weights.
"""

from __future__ import annotations

import torch
from torch.nn.functional import embedding
from transformers import PreTrainedModel


class RowGradient:
    """Looks tokens up outside of autograd's sight, and adds what comes back to the table's gradient afterwards."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.table = model.get_input_embeddings()
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        plain = type(self.table) is torch.nn.Embedding and self.table.max_norm is None and not self.table.sparse
        if plain and self.table.weight.requires_grad:
            self.table.forward = self._look_up

    def add(self) -> None:
        """Add the rows' gradients, after a backward pass."""
        weight = self.table.weight
        for ids, gradient in self.seen:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            kept = ids != (-1 if self.table.padding_idx is None else self.table.padding_idx)
            weight.grad.index_add_(0, ids[kept], gradient[kept])
        self.seen.clear()

    def _look_up(self, ids: torch.Tensor) -> torch.Tensor:
        found = embedding(ids, self.table.weight.detach(), self.table.padding_idx)
        if torch.is_grad_enabled():
            found.requires_grad_()
            found.register_hook(lambda gradient: self.seen.append((ids, gradient)))  # type: ignore[no-untyped-call]
            return found.clone()  # some models multiply it in place, which a leaf forbids
        return found
