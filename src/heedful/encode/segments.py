"""Segments as token ids: ordinary text as the tokenizer reads it, a special token's name as plain text.

A name is tokenised apart from what stands around it. Some tokenizers (sentencepiece's) put a space before all that they
are given; what stands behind other text is given to them behind a character, which is cut off again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from heedful.encode.shape import PLACE
from heedful.encode.stretches import Encoded, Flags, Ids
from heedful.records import Segment

VERSION = 2  # goes up when a text would get other tokens; prompt receipts of 1 name none
# No vocabulary joins a private character with what follows, but some make one unknown token of it and another.
HEADS = (chr(PLACE), "a", ".", "")
_NOTHING: Encoded = (np.zeros(0, np.int32), np.zeros(0, np.bool_))


@dataclass
class _Part:
    """Segments of a row, all ordinary or all literal, that are tokenised together, behind a text that is cut off."""

    row: int
    segments: list[Segment]
    before: str
    encoded: Encoded = _NOTHING

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)

    def supervised_at(self, characters: NDArray[np.int64]) -> Flags:
        """Say of each of these characters of the text whether its segment is supervised."""
        ends = np.cumsum([len(segment.text) for segment in self.segments])
        of = np.minimum(np.searchsorted(ends, characters, side="right"), len(self.segments) - 1)
        return np.array([segment.supervised for segment in self.segments])[of]


@dataclass(frozen=True)
class SegmentTokenizer:
    """A tokenizer for segments; `special` are the texts of its special tokens."""

    tokenizer: PreTrainedTokenizerBase
    special: tuple[str, ...]

    def tokenise(self, rows: Sequence[Sequence[Segment]], *, begins: bool = True) -> list[Encoded]:
        """Tokenise rows of segments; say by `begins` whether they begin a text or go on with one.

        Runs of ordinary segments are tokenised together; a token belongs to the segment in which it starts.
        """
        runs = [
            _Part(k, list(segments), "" if begins and number == 0 else self._before)
            for k, row in enumerate(rows)
            for number, (_, segments) in enumerate(groupby(row, key=lambda segment: segment.literal))
        ]
        for literal in (False, True):
            alike = [run for run in runs if run.segments[0].literal is literal]
            found = self._call([run.text for run in alike], [run.before for run in alike], literal)
            for run, (ids, starts) in zip(alike, found, strict=True):
                run.encoded = ids, run.supervised_at(starts)
        parts = [[_NOTHING] for _ in rows]
        for run in runs:
            parts[run.row].append(run.encoded)
        return [(np.concatenate([i for i, _ in part]), np.concatenate([f for _, f in part])) for part in parts]

    @cached_property
    def _spelling(self) -> PreTrainedTokenizerBase:
        """A tokenizer for names alone: to read them otherwise a tokenizer is changed, which other threads that use it
        meanwhile do not bear."""
        spelling = deepcopy(self.tokenizer)
        spelling.backend_tokenizer.encode_special_tokens = True
        return spelling

    @cached_property
    def _before(self) -> str:
        """What a text is tokenised behind where it goes on with another; nothing if no text gets more than its own."""
        backend, text = self.tokenizer.backend_tokenizer, "a"
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        if backend.pre_tokenizer is not None:
            text = "".join(piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text))
        return "" if text == "a" else HEADS[0]

    def _call(
        self, texts: Sequence[str], before: Sequence[str], literal: bool
    ) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        """Call the tokenizer once for all texts; give ids and the character at which each token starts."""
        if not texts:
            return
        output = (self._spelling if literal else self.tokenizer)(
            [head + text for head, text in zip(before, texts, strict=True)],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            split_special_tokens=literal,
            verbose=False,
        )
        control = set(self.tokenizer.convert_tokens_to_ids(list(self.special))) if literal else set()
        given = zip(texts, before, output["input_ids"], output["offset_mapping"], strict=True)
        for text, head, all_ids, offsets in given:
            ids, spans = np.asarray(all_ids, np.int32), np.asarray(offsets, np.int64).reshape(-1, 2) - len(head)
            own = spans[:, 0] >= 0
            if (~own & (spans[:, 1] > 0)).any():  # the head was joined with the text
                yield from self._call([text], [HEADS[HEADS.index(head) + 1]], literal)
            elif literal and not control.isdisjoint(ids[own].tolist()):
                # A unigram vocabulary holds the name itself as a piece: spell it.
                letters = [i for i, _ in self._call(list(text), [head] + [self._before] * (len(text) - 1), False)]
                yield np.concatenate(letters), np.repeat(range(len(text)), [len(i) for i in letters])
            else:
                yield ids[own], spans[own, 0]
