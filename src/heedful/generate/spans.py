"""Attention of a Decoder's queries, each over as many columns of the cache as it needs itself, whatever its company.

The number of columns is rounded up to COLUMNS; those behind a row's last weigh exactly nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from heedful.generate.decoder import Decoder
from heedful.generate.operations import grouped_attention

COLUMNS = 64  # attention's widths are multiples of this; kernels were seen to differ between widths below 48


@dataclass(frozen=True, eq=False)
class Span:
    """The queries of a forward that see the same number of columns: a kernel sums another width in another order."""

    members: torch.Tensor | slice  # their places among the forward's queries
    slots: torch.Tensor | slice | int  # each member's slot, or the one slot of all
    mask: torch.Tensor  # [members, 1, group * tokens, columns]: 0 or -inf

    def context(self, cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and the values that each sees of a layer's cache, [members, kv_heads, columns, width]."""
        count, *_, columns = self.mask.shape
        if isinstance(self.slots, int):
            seen = cache[self.slots, :columns].expand(count, -1, -1, -1, -1)
        else:
            seen = cache[:, :columns][self.slots]
        keys, values = seen.permute(2, 0, 3, 1, 4)
        return keys, values


def spans_of(decoder: Decoder, ends: Sequence[int], slots: Sequence[int], positions: torch.Tensor) -> list[Span]:
    """Group queries by how many columns they see: query i those of slots[i] up to ends[i].

    `positions`, [queries, tokens], are those of each query's tokens.
    """
    group, spans = decoder.attention.heads // decoder.attention.kv_heads, []
    for width in sorted({round_up(end, COLUMNS) for end in ends}):
        members = [i for i, end in enumerate(ends) if round_up(end, COLUMNS) == width]
        mask = _mask(positions[members], width, decoder.dtype)[:, None, None].expand(-1, 1, group, -1, -1)
        stand = [slots[i] for i in members]
        where = stand[0] if len(set(stand)) == 1 else _index(stand, positions.device)
        spans.append(Span(_index(members, positions.device), where, mask.flatten(2, 3)))
    return spans


def attend_by_span(q: torch.Tensor, cache: torch.Tensor, spans: Sequence[Span], scale: float) -> torch.Tensor:
    """Let queries, [queries, tokens, heads, width], attend to a layer's cache span by span.

    Give [queries * tokens, heads * width].
    """
    seen = q.new_empty(len(q), q.shape[1], q.shape[2] * q.shape[3])
    for span in spans:
        attended = grouped_attention(q[span.members], *span.context(cache), span.mask, scale)
        seen[span.members] = attended.view(-1, *seen.shape[1:])
    return seen.flatten(0, 1)


def round_up(number: int, step: int) -> int:
    """Return the next multiple: 65 by 64 -> 128."""
    return -(-number // step) * step


def _index(places: list[int], device: torch.device) -> torch.Tensor | slice:
    """Return what selects these places, without a copy if they are the first."""
    return slice(len(places)) if places == list(range(len(places))) else torch.tensor(places, device=device)


def _mask(positions: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Let each token see the columns up to its own position: 0 or -inf, [*positions, columns]."""
    hidden = torch.arange(width, device=positions.device) > positions[..., None]
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, -torch.inf)
