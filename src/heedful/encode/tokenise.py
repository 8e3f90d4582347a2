"""Conversations as token ids, each with a flag that says whether it is learned.

The whole text is tokenised at once, as every server will do it, and a token belongs to the segment in which it starts.
Where a prompt alone would not give the same first tokens (a merge across the border), the answer is tokenised apart, so
that the prompt at inference always is the exact token prefix of the training example.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from heedful.config import EncodeConfig
from heedful.data.portions import portions
from heedful.encode.account import Chunk, EncodingReceipt, Fitted
from heedful.encode.segments import SegmentTokenizer
from heedful.encode.stretches import Encoded, Flags, Ids, Stretches
from heedful.encode.template import Template, choose_template
from heedful.encode.truncate import Truncated, Truncator
from heedful.errors import DataError, ModelError
from heedful.records import Conversation, Message, Segment, TokenizedExample
from heedful.reporter import Done, tallied, unheard

CHUNK = 2048  # conversations tokenised together: enough to keep the tokenizer's threads busy
PORTION = 2**22  # characters from which on they are fewer: a token takes some 150 bytes while its text is tokenised


@dataclass(frozen=True)
class Encoder:
    """Turns conversations into examples, and a conversation's beginning into the prompt that matches them."""

    template: Template
    stop_ids: frozenset[int]
    max_tokens: int
    supervise: Literal["response", "all"] = "response"
    long_rows: Literal["truncate", "drop", "error"] = "truncate"
    weighs_prompts: bool = False

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.template.tokenizer

    def identity(self) -> dict[str, Any]:
        """Return all that the examples depend on besides the conversations."""
        backend, template = self.tokenizer.backend_tokenizer, self.template
        backend.no_truncation()
        backend.no_padding()
        return {
            "tokenizer": hashlib.sha256(backend.to_str().encode()).hexdigest(),
            "class": type(self.tokenizer).__name__,
            "special": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "template": [template.name, template.source, template.joint, template.special],
            "stop_ids": sorted(self.stop_ids),
            "policies": [self.max_tokens, self.supervise, self.long_rows, self.weighs_prompts],
            "versions": [importlib.metadata.version(name) for name in ("tokenizers", "transformers", "jinja2")],
        }

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation up to where the next answer begins."""
        ids, _ = self._encode_one(self.template.pieces(messages, add_generation_prompt=True))
        return [int(i) for i in ids]

    def encode(self, conversations: Iterable[Conversation]) -> tuple[list[TokenizedExample], EncodingReceipt]:
        """Encode every conversation that can be kept, in order, and account for each."""
        receipt, examples = EncodingReceipt(self.max_tokens), []
        for chunk in self.chunks(conversations):
            receipt.add(chunk.receipt)
            examples += [fitted.example for fitted in chunk.kept]
        return examples, receipt

    def fitted(self, conversation: Conversation) -> Conversation | None:
        """Return a conversation as it is learned: itself, or cut to fit; None where it is left out."""
        (chunk,) = self.chunks([conversation])
        return next((fitted.conversation for fitted in chunk.kept), None)

    def chunks(self, conversations: Iterable[Conversation], done: Done = unheard) -> Iterator[Chunk]:
        """Encode conversations as they come, CHUNK of them at a time; tell `done` now and then how many were."""
        rest = iter(conversations)
        for first in count(0, CHUNK):
            if not (some := list(islice(rest, CHUNK))):
                return
            kept, receipt = [], EncodingReceipt(self.max_tokens)
            encoded = (row for portion in portions(some, _characters, PORTION) for row in self._rows(portion, receipt))
            for number, (conversation, row) in enumerate(zip(some, tallied(encoded, done, first), strict=True)):
                if row and (fitted := self._fit(number, conversation, row, receipt)):
                    kept.append(fitted)
            yield Chunk(kept, receipt)

    def _fit(self, number: int, conversation: Conversation, row: Encoded, receipt: EncodingReceipt) -> Fitted | None:
        """Make an example of an encoded conversation, cut where it is too long; None where it is left out. Either is
        counted."""
        ids, flags = row
        if problem := self._unstopped(ids, flags):
            receipt.refused[str(conversation.place)] = problem
            return None
        example = self._example(conversation, ids, flags)
        if example is None:
            receipt.unlearned.append(str(conversation.place))
            return None
        if len(ids) > self.max_tokens:
            shorter = self._shorten(conversation, ids, flags)
            if shorter is not None:
                flags = shorter.flags
                conversation = replace(conversation, messages=shorter.messages)
                example = self._example(conversation, shorter.ids, flags)
            if shorter is None or example is None:  # turns that are not learned may be all that fits
                receipt.dropped.append(str(conversation.place))
                return None
            receipt.count_cuts(shorter.fields)
        receipt.rows += 1
        receipt.stop_supervised += bool(example.supervised[-1]) and int(example.ids[-1]) in self.stop_ids
        return Fitted(number, conversation, example, int(np.count_nonzero(flags)))

    def _rows(self, conversations: Sequence[Conversation], receipt: EncodingReceipt) -> list[Encoded | None]:
        """Encode conversations; None for each that the template refuses, found by halving what holds one."""
        try:
            return [*self._taken(conversations, receipt)]
        except ModelError as error:
            if len(conversations) == 1:
                receipt.refused[str(conversations[0].place)] = error.problem
                return [None]
        half = len(conversations) // 2
        return [row for some in (conversations[:half], conversations[half:]) for row in self._rows(some, receipt)]

    def _taken(self, conversations: Sequence[Conversation], receipt: EncodingReceipt) -> list[Encoded]:
        """Encode conversations: by the stretches of their shapes, or piece by piece where that is not possible."""
        rows = self._stretches.encode([conversation.messages for conversation in conversations])
        rest = [number for number, row in enumerate(rows) if row is None]
        pieces = [self.template.pieces(conversations[number].messages) for number in rest]
        for number, (ids, flags, crossed) in zip(rest, self._encode(pieces), strict=True):
            rows[number] = ids, flags
            receipt.cut_in_pieces += crossed
        receipt.special_tokens_in_text += sum(any(segment.literal for segment in _joined(row)) for row in pieces)
        return [row for row in rows if row is not None]

    def without_shapes(self, messages: Sequence[Message]) -> Encoded:
        """Encode one conversation piece by piece."""
        return self._encode_one(self.template.render_pieces(messages))

    @cached_property
    def _stretches(self) -> Stretches:
        return Stretches(self.template, self.without_shapes)

    @cached_property
    def _segments(self) -> SegmentTokenizer:
        return SegmentTokenizer(self.tokenizer, self.template.special)

    def _encode_one(self, pieces: Sequence[Sequence[Segment]]) -> Encoded:
        ids, flags, _ = self._encode([pieces])[0]
        return ids, flags

    def _encode(self, rows: Sequence[Sequence[Sequence[Segment]]]) -> list[tuple[Ids, Flags, bool]]:
        """Tokenise rows of pieces (prompt, answer, prompt, ...), each prompt being an exact prefix of what follows.

        Every prompt is tokenised from the start, as at inference, and so is the whole. Where a merge would cross into
        an answer, what follows the prompt is tokenised apart, and the row's third part is True; a conversation's later
        prompts then do the same.
        """
        stretches = [(row, end) for row in rows for end in _ends(row)]
        tokenised = iter(self._segments.tokenise([_joined(row[:end]) for row, end in stretches]))
        encoded = []
        for row in rows:
            ids, flags = np.zeros(0, np.int32), np.zeros(0, np.bool_)
            start, crossed = 0, False
            for end in _ends(row):
                longer, learned = next(tokenised)
                if start and not _begins(longer, ids):
                    crossed = True
                    rest, learned_rest = self._segments.tokenise([_joined(row[start:end])], begins=False)[0]
                    longer, learned = np.concatenate([ids, rest]), np.concatenate([flags, learned_rest])
                ids, flags, start = longer, np.concatenate([flags, learned[len(flags) :]]), end
            encoded.append((ids, flags, crossed))
        return encoded

    def _shorten(self, conversation: Conversation, ids: Ids, flags: Flags) -> Truncated | None:
        """Apply the policy for long rows: cut texts until the example fits, refuse it, or (None) drop it."""
        if self.long_rows == "error":
            raise DataError(
                f"{conversation.place}: {len(ids)} tokens, but at most {self.max_tokens} fit.",
                "Shorten the row, or choose --set encode.long_rows=truncate (or drop).",
            )
        if self.long_rows == "drop":
            return None
        whole = Truncated(conversation.messages, frozenset(), ids, flags)
        return Truncator(self.max_tokens, self._encode_cut, self.tokenizer).cut(whole)

    def _encode_cut(self, messages: tuple[Message, ...]) -> Encoded:
        """Encode a conversation that was cut: of several exchanges without a shape, which few others would have."""
        several = sum(message.role == "user" for message in messages) > 1
        return self.without_shapes(messages) if several else self._encode_one(self.template.pieces(messages))

    def _example(self, conversation: Conversation, ids: Ids, flags: Flags) -> TokenizedExample | None:
        """Mark what is learned of a conversation's tokens; None where nothing is."""
        excluded = self._excluded(conversation.messages, flags)
        if self.supervise == "response":
            supervised = flags.copy()
        else:
            supervised = np.ones(len(ids), np.bool_) if excluded is None else ~excluded
        supervised[:1] = False
        if not supervised.any():
            return None
        return TokenizedExample(conversation.id, ids, supervised, excluded if self.weighs_prompts else None)

    def _excluded(self, messages: Sequence[Message], flags: Flags) -> Flags | None:
        """Mark the answers of weight 0, where more than answers is learned: they would be supervised without it."""
        if not (self.weighs_prompts or self.supervise == "all") or all(m.supervised is not False for m in messages):
            return None
        _, answers = self._encode_one(self.template.pieces([replace(m, supervised=None) for m in messages]))
        return answers & ~flags

    def _unstopped(self, ids: Ids, flags: Flags) -> str | None:
        """Say of an answer that would be learned without its end; neither truncation nor weights take that away."""
        last = ids[flags & ~np.append(flags[1:], False)].tolist()
        if self.stop_ids.issuperset(last):
            return None
        token = self.tokenizer.decode([next(i for i in last if i not in self.stop_ids)])
        return f"The template '{self.template.name}' ends an answer in {token!r}, which is no stop token."


def build_encoder(config: EncodeConfig, tokenizer: PreTrainedTokenizerBase, positions: int) -> Encoder:
    """Bind the configured template to a tokenizer; `positions` is the longest sequence that the model can take."""
    template = choose_template(config.template, tokenizer)
    limit = min(config.max_tokens or positions, positions)
    return Encoder(template, stop_ids(template), limit, config.supervise, config.long_rows, config.prompt_weight > 0)


def stop_ids(template: Template) -> frozenset[int]:
    """Return the ids that end an answer: the template's stop token, and the tokenizer's end of text."""
    tokenizer = template.tokenizer
    return frozenset({tokenizer.convert_tokens_to_ids(template.stop_token()), tokenizer.eos_token_id})


def _characters(conversation: Conversation) -> int:
    return sum(len(message.content) + len(message.input) for message in conversation.messages)


def _ends(row: Sequence[Sequence[Segment]]) -> list[int]:
    """List the numbers of pieces that make a prompt, or the whole: [P A P A] gives 1, 3, 4."""
    return sorted({*range(1, len(row), 2), len(row)})


def _joined(pieces: Sequence[Sequence[Segment]]) -> list[Segment]:
    return [segment for piece in pieces for segment in piece]


def _begins(ids: Ids, prefix: Ids) -> bool:
    return len(prefix) <= len(ids) and bool((ids[: len(prefix)] == prefix).all())
