"""What became of conversations on their way to tokens: kept, cut, or left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from heedful.records import Conversation, TokenizedExample

LeftOut = Mapping[str, Sequence[str]]  # why -> the rows' places


@dataclass
class EncodingReceipt:
    """What became of each conversation on its way to tokens; counts are rows."""

    limit: int
    rows: int = 0
    dropped: list[str] = field(default_factory=list)  # too long
    unlearned: list[str] = field(default_factory=list)  # every answer has the weight 0, and nothing else is learned
    refused: dict[str, str] = field(default_factory=dict)  # place -> what the template says
    truncated: dict[str, int] = field(default_factory=dict)  # by the field that was cut
    special_tokens_in_text: int = 0
    cut_in_pieces: int = 0  # rows in which a merge would have crossed the border of prompt and answer
    stop_supervised: int = 0

    def count_cuts(self, fields: Iterable[str]) -> None:
        """Count a row in which these fields were cut."""
        for name in sorted(fields):
            self.truncated[name] = self.truncated.get(name, 0) + 1

    def add(self, other: EncodingReceipt) -> None:
        """Count another receipt's rows too."""
        self.dropped += other.dropped
        self.unlearned += other.unlearned
        self.refused |= other.refused
        self.truncated = dict(Counter(self.truncated) + Counter(other.truncated))
        for name in ("rows", "special_tokens_in_text", "cut_in_pieces", "stop_supervised"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation as it is learned: what was left of it after cuts, encoded."""

    number: int  # in its chunk
    conversation: Conversation
    example: TokenizedExample
    answer_tokens: int


@dataclass(frozen=True)
class Chunk:
    """Some conversations, encoded: those that were kept, and what became of all."""

    kept: list[Fitted]
    receipt: EncodingReceipt


def not_scored(receipt: EncodingReceipt) -> LeftOut:
    """Name the rows that cannot be scored, by why."""
    return _left_out(receipt, "too long to be cut to fit", "with a last answer of weight 0")


def not_learned(receipt: EncodingReceipt) -> LeftOut:
    """Name the rows that cannot be learned or validated on, by why."""
    return _left_out(receipt, f"longer than {receipt.limit:,} tokens", "with every answer of weight 0")


def _left_out(receipt: EncodingReceipt, too_long: str, silent: str) -> LeftOut:
    found = {"refused by the template": [*receipt.refused], too_long: receipt.dropped, silent: receipt.unlearned}
    return {why: places for why, places in found.items() if places}


def left_out_in_words(left_out: LeftOut) -> str:
    """Count rows by why they are left out, and name the first of each kind."""
    return "; ".join(f"{len(places):,} {why} (the first: {places[0]})" for why, places in left_out.items())
