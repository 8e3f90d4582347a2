"""A running batch of a Decoder: rows join with a prompt, take tokens, and leave; none notices the others.

A row lives in a slot of the cache; its tokens stand in columns 0, 1, ... without padding. Prompts are read in units of
UNIT tokens; a beginning that rows share, up to whole units, is computed once and written to all their slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from heedful import kernels
from heedful.generate.decoder import Decoder
from heedful.generate.linear import blocks
from heedful.generate.operations import attend_in_place
from heedful.generate.prefix_cache import PrefixCache, prefix_key
from heedful.generate.spans import COLUMNS, Span, attend_by_span, round_up, spans_of

UNIT = 16  # tokens of a prompt that are read, and shared, together
PREFILL_TOKENS = 1024  # most tokens of one forward of prefill
ROOM_TOKENS = 2**16  # most columns, over all slots, that are kept although the running rows need fewer
PREFILL_COLUMNS = 2**15  # most columns that the keys of one forward of prefill may have, over all its units


@dataclass(eq=False)
class Unit:
    """Up to UNIT tokens of a prompt, the `level`-th of it: a node of the prompts' tree."""

    tokens: tuple[int, ...]
    level: int
    slots: list[int] = field(default_factory=list)  # those it must be written to
    key: bytes = b""  # stands for all tokens up to its end
    holder: int | None = None  # an earlier row that has it
    followers: dict[tuple[int, ...], Unit] = field(default_factory=dict)

    @property
    def start(self) -> int:
        return self.level * UNIT


@dataclass(frozen=True, eq=False)
class PrefillLayout:
    """Where the tokens of one forward of prefill stand, and what they see."""

    tokens: torch.Tensor  # [units * UNIT]
    positions: torch.Tensor  # [units * UNIT]
    source: torch.Tensor  # [writes]: the tokens whose keys and values are written,
    where: torch.Tensor  # [writes]: and to where, slot * columns + column
    spans: list[Span]


class Slots:
    """The rows, numbered as they stand: `join` appends some, `keep` removes some and says who took which place."""

    exact = True  # logits are a function of the row's own tokens, bit for bit

    def __init__(self, decoder: Decoder, prefix_cache: PrefixCache | None = None) -> None:
        self.decoder = decoder
        self._prefix_cache = prefix_cache  # read by rows that may have left
        self._prompts: list[Sequence[int]] = []
        self._lengths: list[int] = []
        self._compiled = kernels.has(decoder.dtype, decoder.device)
        self._cache = self._room(0, 0)
        self._rope_table = decoder.rope_table(0)

    @torch.inference_mode()
    def join(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the prompts of new rows; give the logits after each, [rows, vocabulary] float32 on the CPU."""
        first = len(self._lengths)
        self._prompts += map(tuple, prompts)  # copies: a row's own list grows by its answer
        self._lengths += map(len, prompts)
        self._reserve(len(self._lengths), max(self._lengths) + UNIT)
        states = torch.zeros(len(prompts), self.decoder.head.shape[1]).to(self._cache)
        for units in batches(self._plan(first)):
            read = self._prefill(units)
            self._cache_units(units)
            ends = [(i, slot, self._lengths[slot] - 1 - u.start) for i, u in enumerate(units) for slot in u.slots]
            ends = [(i, slot, at) for i, slot, at in ends if at < UNIT]
            states[[slot - first for _, slot, _ in ends]] = read[[i * UNIT + at for i, _, at in ends]]
        return self._logits(states)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append a token to each row; give the logits after it, [rows, vocabulary] float32 on the CPU."""
        sizes, rows = self.decoder.attention, blocks(len(tokens), self.decoder.decode_sizes)
        total = sum(rows)
        filling = [0] * (total - len(tokens))  # empty slots, so that the number of rows is an allowed one
        self._reserve(total, max(self._lengths) + 1)
        ids, positions = self._tensor([*tokens, *filling]), self._tensor([*self._lengths, *filling])
        self._lengths = [length + 1 for length in self._lengths]
        where = self._tensor(range(total)) * self._cache.shape[2] + positions
        ends = [*self._lengths, *[self._lengths[0]] * len(filling)]
        spans = [] if self._compiled else spans_of(self.decoder, ends, range(total), positions[:, None])

        def attend(layer: int, heads: torch.Tensor) -> torch.Tensor:
            if self._compiled:
                return attend_in_place(heads, self._cache[layer], positions, sizes.heads, sizes.scale)
            q, k, v = self._parts(heads)
            self._write(layer, where, k, v)
            return attend_by_span(q[:, None], self._cache[layer], spans, sizes.scale)

        states = self.decoder.forward(ids, positions, self._rope_table, rows, attend)
        return self.decoder.logits(states, rows)[: len(tokens)].float().cpu()

    @torch.inference_mode()
    def keep(self, stays: Sequence[bool]) -> list[int]:
        """Remove the rows that do not stay; give the old numbers of those that do, in their new order."""
        kept = fill_gaps(stays)
        for new, old in enumerate(kept):
            if new != old:
                self._copy(old, new, slice(0, self._lengths[old]))
        self._prompts = [self._prompts[old] for old in kept]
        self._lengths = [self._lengths[old] for old in kept]
        return kept

    def _plan(self, first: int) -> list[Unit]:
        """List what must be read for the rows from `first` on, beginnings first; what an earlier row has is copied.

        A prompt's last unit is always read, because the state of its last token is wanted.
        """
        tree, units = Unit((), -1), []
        for slot, prompt in enumerate(self._prompts):
            unit = tree
            for level, start in enumerate(range(0, len(prompt), UNIT)):
                tokens = tuple(prompt[start : start + UNIT])
                if tokens not in unit.followers:
                    unit.followers[tokens] = Unit(tokens, level, key=prefix_key(unit.key, tokens))
                    units.append(unit.followers[tokens])
                unit = unit.followers[tokens]
                if slot < first:
                    unit.holder = slot
                elif unit.holder is not None and start + UNIT < len(prompt):
                    self._copy(unit.holder, slot, slice(start, start + UNIT))
                elif start + UNIT >= len(prompt) or not self._load_unit(unit, slot):
                    unit.slots.append(slot)
        return sorted((unit for unit in units if unit.slots), key=lambda unit: unit.level)

    def _cache_units(self, units: Sequence[Unit]) -> None:
        """Keep what was read of whole units, for prompts to come."""
        for unit in units:
            if self._prefix_cache is not None and len(unit.tokens) == UNIT:
                states = self._cache[:, unit.slots[0], unit.start : unit.start + UNIT]
                self._prefix_cache.keep(unit.key, states)

    def _load_unit(self, unit: Unit, slot: int) -> bool:
        """Write what an earlier prompt read of this unit into a slot; say whether there was any."""
        states = self._prefix_cache.find(unit.key) if self._prefix_cache is not None else None
        if states is not None:
            self._cache[:, slot, unit.start : unit.start + UNIT] = states
        return states is not None

    def _prefill(self, units: Sequence[Unit]) -> torch.Tensor:
        """Run units through the model, each after what stands before it in its slot; give [units * UNIT, width]."""
        rows = blocks(len(units) * UNIT, self.decoder.prefill_sizes)
        layout, scale = self._lay_out(units, sum(rows) // UNIT), self.decoder.attention.scale

        def attend(layer: int, heads: torch.Tensor) -> torch.Tensor:
            q, k, v = self._parts(heads)
            self._write(layer, layout.where, k[layout.source], v[layout.source])
            return attend_by_span(q.reshape(-1, UNIT, *q.shape[1:]), self._cache[layer], layout.spans, scale)

        return self.decoder.forward(layout.tokens, layout.positions, self._rope_table, rows, attend)

    def _lay_out(self, units: Sequence[Unit], total: int) -> PrefillLayout:
        """Place the tokens of units, and of as many empty ones as make `total`."""
        filled = [*units, *[Unit((), units[0].level, units[0].slots)] * (total - len(units))]
        tokens = self._tensor([(*unit.tokens, *[0] * (UNIT - len(unit.tokens))) for unit in filled])
        inside = self._tensor(range(UNIT))
        positions = self._tensor([unit.start for unit in filled])[:, None] + inside  # [units, UNIT]
        ends, slots = [unit.start + UNIT for unit in filled], [unit.slots[0] for unit in filled]
        spans = spans_of(self.decoder, ends, slots, positions)
        writes = [(i * UNIT, slot * self._cache.shape[2] + u.start) for i, u in enumerate(units) for slot in u.slots]
        source, where = (self._tensor(writes).T[..., None] + inside).flatten(1)
        return PrefillLayout(tokens.flatten(), positions.flatten(), source, where, spans)

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        rows = blocks(len(states), self.decoder.decode_sizes)
        padded = F.pad(states, (0, 0, 0, sum(rows) - len(states)))
        return self.decoder.logits(padded, rows)[: len(states)].float().cpu()

    def _parts(self, heads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Cut [tokens, heads + 2 kv_heads, width] into queries, keys and values."""
        sizes = self.decoder.attention
        return torch.split(heads, [sizes.heads, sizes.kv_heads, sizes.kv_heads], 1)

    def _write(self, layer: int, where: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Put keys and values, both [tokens, kv_heads, width], where they belong: slot * columns + column."""
        flat = self._cache[layer].flatten(0, 1)
        flat[:, 0].index_copy_(0, where, k)
        flat[:, 1].index_copy_(0, where, v)

    def _copy(self, old: int, new: int, columns: slice) -> None:
        self._cache[:, new, columns] = self._cache[:, old, columns]

    def _reserve(self, slots: int, columns: int) -> None:
        """Make room for so many slots and columns, and for more of what was too small."""
        old = self._cache
        _, had_slots, had_columns, *_ = old.shape
        if slots <= had_slots and columns <= had_columns:
            return
        more = had_columns if columns <= had_columns else round_up(max(columns, had_columns * 3 // 2), COLUMNS)
        kept_slots = max(slots, min(had_slots, 2 * slots))  # most of a batch may have left when its last rows grow
        if kept_slots * more <= ROOM_TOKENS:
            slots, columns = kept_slots, more
        else:  # many short rows were here before and few long ones are now, or the other way round
            columns = round_up(columns, COLUMNS)
        cache = self._room(slots, columns)
        kept = min(slots, had_slots), min(columns, had_columns)
        cache[:, : kept[0], : kept[1]] = old[:, : kept[0], : kept[1]]
        self._cache = cache
        self._rope_table = self.decoder.rope_table(columns)

    def _room(self, slots: int, columns: int) -> torch.Tensor:
        """Make an empty cache, [layers, slots, columns, 2 (key and value), kv_heads, width]: finite from the start."""
        sizes = self.decoder.attention
        size = (sizes.layers, slots, columns, 2, sizes.kv_heads, sizes.width)
        return torch.zeros(size, dtype=self.decoder.dtype, device=self.decoder.device)

    def _tensor(self, numbers: Sequence[object]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.decoder.device)


def batches(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Cut units, in order, into forwards of bounded size."""
    batch: list[Unit] = []
    for unit in units:
        columns = (len(batch) + 1) * (unit.start + UNIT)
        alone = len({u.slots[0] for u in [*batch, unit]}) == 1  # one slot's keys are read where they are
        if batch and ((len(batch) + 1) * UNIT > PREFILL_TOKENS or (columns > PREFILL_COLUMNS and not alone)):
            yield batch
            batch = []
        batch.append(unit)
    if batch:
        yield batch


def fill_gaps(stays: Sequence[bool]) -> list[int]:
    """Order the rows that stay so that few change place: T F T F T -> [0, 4, 2]: the last moves into the first gap."""
    count = sum(stays)
    movers = [i for i in range(len(stays) - 1, count - 1, -1) if stays[i]]
    return [i if stays[i] else movers.pop(0) for i in range(count)]
