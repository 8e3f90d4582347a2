"""Which rows can be scored, and why others cannot: decided alike before a training and in every evaluation.

Only the last answer is scored, whichever turns are supervised in training. A row too long for the model is cut as it
would be there, prompt first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from heedful.encode.account import Chunk, EncodingReceipt, LeftOut, not_scored
from heedful.encode.tokenise import CHUNK, Encoder
from heedful.records import Conversation, TokenizedExample
from heedful.reporter import Done, unheard


@dataclass(frozen=True)
class Scorable:
    """The rows that can be scored: as they were read, as they are put to a model, encoded; and the others."""

    encoder: Encoder
    rows: list[Conversation] = field(default_factory=list)
    asked: list[Conversation] = field(default_factory=list)
    examples: list[TokenizedExample] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=dict)

    @property
    def cut(self) -> int:
        """Count the rows that were too long for the model."""
        pairs = zip(self.rows, self.asked, strict=True)
        return sum(asked.messages != last_answer_only(row).messages for row, asked in pairs)


def sift(encoder: Encoder, rows: Sequence[Conversation]) -> Scorable:
    """Part the rows that can be scored from those that cannot."""
    found, receipt = Scorable(encoder), EncodingReceipt(encoder.max_tokens)
    for start, chunk in zip(count(0, CHUNK), _chunks(encoder, rows), strict=False):
        for fitted in chunk.kept:
            found.rows.append(rows[start + fitted.number])
            found.asked.append(fitted.conversation)
            found.examples.append(fitted.example)
        receipt.add(chunk.receipt)
    return replace(found, left_out=not_scored(receipt))


def account_for(encoder: Encoder, rows: Sequence[Conversation], done: Done) -> EncodingReceipt:
    """Count what `sift` would keep and leave out, without keeping any row; tell `done` how far it is."""
    receipt = EncodingReceipt(encoder.max_tokens)
    for chunk in _chunks(encoder, rows, done):
        receipt.add(chunk.receipt)
    return receipt


def scoring(encoder: Encoder, positions: int) -> Encoder:
    """Return the encoder of an evaluation, which is bound by the model alone and not by how it was trained."""
    return replace(encoder, max_tokens=positions, supervise="response", long_rows="truncate", weighs_prompts=False)


def last_answer_only(conversation: Conversation) -> Conversation:
    """Leave only the last answer supervised, as it is the one that is generated; none if it has the weight 0."""
    last = len(conversation.messages) - 1
    turns = enumerate(conversation.messages)
    messages = tuple(replace(turn, supervised=i == last and turn.supervised is not False) for i, turn in turns)
    return replace(conversation, messages=messages)


def _chunks(encoder: Encoder, rows: Sequence[Conversation], done: Done = unheard) -> Iterator[Chunk]:
    return encoder.chunks(map(last_answer_only, rows), done)
