"""Keys and values of the tokens so far, in buffers with room to grow.

transformers' own layer copies the whole cache at every token and whenever a row leaves; this one writes in place, and a
leaving row costs a copy of the row that takes its place. Layers of other kinds (sliding windows, ...) stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

ROOM = 128  # tokens that fit before a buffer must grow again


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A DynamicLayer whose `keys` and `values` are views of longer buffers."""

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Append the new tokens' states; give all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < end:
            self._buffers = _grown(self.keys, key_states, start), _grown(self.values, value_states, start)
        self._buffers[0][..., start:end, :] = key_states
        self._buffers[1][..., start:end, :] = value_states
        return self._show(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows in this order; only those whose place changes are copied."""
        if self._buffers is None:
            return super().batch_select_indices(indices)  # type: ignore[no-any-return]
        rows, end = len(indices), self.get_seq_length()
        moved = (indices != torch.arange(rows, device=indices.device)).nonzero()[:, 0]
        for buffer in self._buffers:
            buffer[moved, :, :end] = buffer[indices[moved], :, :end]
        self._buffers = self._buffers[0][:rows], self._buffers[1][:rows]
        self._show(end)
        return None

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Make each row `repeats` rows."""
        super().batch_repeat_interleave(repeats)
        self._buffers = None

    def _show(self, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._buffers is not None
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        return self.keys, self.values


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """Make an empty cache with the kinds of layers that the model has."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def attends_to_all(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Say whether every layer sees every earlier token, so that a gap of padding among them does no harm."""
    kinds = str(getattr(model.config, "attention_types", ""))  # GPT-Neo's windows, of which its cache knows nothing
    return "local" not in kinds and all(isinstance(layer, GrowingLayer) for layer in cache.layers)


def _grown(old: torch.Tensor, new: torch.Tensor, start: int) -> torch.Tensor:
    """Make a buffer for `start` old tokens, the new ones, and some room; the old ones are in it."""
    rows, heads, tokens, width = new.shape
    buffer = new.new_empty(rows, heads, start + tokens + ROOM, width)
    if start:
        buffer[:, :, :start] = old
    return buffer
