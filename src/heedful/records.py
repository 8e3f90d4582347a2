"""The frozen values that flow through the pipeline, in the order in which they appear.

row -> Conversation -> TokenizedExample -> Batch (one forward) -> group (one update) -> StepMetrics

Standard library only: every stage and every test may import this in a millisecond. Tensors appear as annotations.
`supervised` is the word for what is learned: True means that it counts in the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from heedful.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: its file, its 1-based number among the rows, and its line where the format has lines."""

    file: str
    row: int
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line} (row {self.row})" if self.line else f"{self.file} (row {self.row})"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `input` is an alpaca row's second field, which each template joins to `content` in its own way."""

    role: Role
    content: str
    supervised: bool | None = None  # None: by policy (the assistant's turns are, the others are not)
    input: str = ""


CHECK_PREFIX = "check_"  # a check of kind max_words gives the score check_max_words


@dataclass(frozen=True, slots=True)
class Check:
    """A constraint on the answer that code can decide, as its row declares it: ("max_words", 20)."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Conversation:
    """The narrow waist between the formats of rows and the one encoder."""

    id: str
    messages: tuple[Message, ...]
    place: Place
    row: Row = field(default_factory=dict, compare=False)  # as read, so that results can be written beside it
    checks: tuple[Check, ...] = ()

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What its last answer replies to."""
        return self.messages[:-1]

    @property
    def asked(self) -> list[str]:
        """All texts that the user says in it."""
        return [text for turn in self.messages if turn.role == "user" for text in (turn.content, turn.input) if text]

    @property
    def answer(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of a data set, read from disk where they are asked for; nothing stands in two of them."""

    train: Sequence[Conversation]
    validation: Sequence[Conversation]
    test: Sequence[Conversation]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text. The texts of a conversation's segments, joined, are exactly what the model sees."""

    text: str
    supervised: bool
    literal: bool = False  # a special token's name that a user wrote: plain text, never the token


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """Token ids with one flag each; the first token has no predecessor, so nothing can be learned of it."""

    id: str
    ids: NDArray[np.int32]  # [tokens]
    supervised: NDArray[np.bool_]  # [tokens]
    excluded: NDArray[np.bool_] | None = None  # [tokens]: answers of weight 0, no targets even where prompts are

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.supervised), (self.id, len(self.ids), len(self.supervised))
        assert not self.supervised[0], self.id

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What must be predicted: after the token at `source`, `target` follows, `weight` times. One row an edge."""

    source: torch.Tensor  # [predictions] int64: positions in the flattened batch
    target: torch.Tensor  # [predictions] int64: token ids
    weight: torch.Tensor  # [predictions] float32


@dataclass(frozen=True, slots=True, eq=False)
class SupervisedTokens:
    """For each supervised token of each example: whose it is, and which prediction. A shared one counts for each."""

    ids: tuple[str, ...]  # of the examples
    example: NDArray[np.int64]  # [supervised tokens]: which of the examples
    prediction: NDArray[np.int64]  # [supervised tokens]: which of the predictions


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One forward: what goes in, who sees whom, what must be predicted. Never shifted, never padded by id."""

    input_ids: torch.Tensor  # [rows, width] int64; a tree is one row
    position_ids: torch.Tensor  # [rows, width] int64
    attention: torch.Tensor  # [rows, width] int64 (padded) or [1, 1, width, width] bool (tree)
    predictions: Predictions
    weight: float  # sum of predictions.weight: the batch's share of the update's one denominator
    targets: int  # supervised tokens, each example counted
    supervised: SupervisedTokens

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device: itself, where they are there already."""
        p = self.predictions
        if p.source.device == device:
            return self
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            attention=self.attention.to(device),
            predictions=Predictions(p.source.to(device), p.target.to(device), p.weight.to(device)),
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """All that a resumed run needs besides tensors: the next group is `cursor` of `epoch`."""

    step: int = 0
    epoch: int = 0
    cursor: int = 0
    tokens: int = 0
    bad_steps: int = 0  # updates in a row up to here whose loss or gradient was not finite

    @property
    def epochs_begun(self) -> int:
        return self.epoch + (self.cursor > 0)


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One update. `loss` is in nats per supervised token (by weight), `seconds` the wall time of the step."""

    step: int
    epoch: float
    loss: float
    targets: int
    tokens: int
    lr: float
    grad_norm: float
    seconds: float


COLDEST = 1e-5  # the lowest temperature above 0: logits divided by less overflow
LEAST_PENALTY = 0.01  # of repetition, for the same reason


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one answer is decoded. Temperature 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 leave all tokens in.

    `repetition_penalty` looks at prompt and answer, `presence_penalty` and `frequency_penalty` at the answer alone.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    min_p: float = 0.0  # of the likeliest token's probability
    presence_penalty: float = 0.0  # off the logit of a token that the answer holds
    frequency_penalty: float = 0.0  # off its logit, each time that the answer holds it
    logit_bias: tuple[tuple[int, float], ...] = ()  # token id, what is added to its logit
    logprobs: int | None = None  # record each choice, with so many alternatives

    def __post_init__(self) -> None:
        """Refuse impossible settings, all at once."""
        wrong = {
            f"max_tokens={self.max_tokens} (at least 1)": self.max_tokens < 1,
            f"temperature={self.temperature} (0, or at least {COLDEST:g})": not (
                self.temperature == 0 or COLDEST <= self.temperature < float("inf")
            ),
            f"top_k={self.top_k} (at least 0)": self.top_k < 0,
            f"top_p={self.top_p} (above 0, at most 1)": not 0 < self.top_p <= 1,
            f"min_p={self.min_p} (from 0 to 1)": not 0 <= self.min_p <= 1,
            f"repetition_penalty={self.repetition_penalty} (at least {LEAST_PENALTY:g})": not (
                LEAST_PENALTY <= self.repetition_penalty < float("inf")
            ),
            f"presence_penalty={self.presence_penalty} (a finite number)": not math.isfinite(self.presence_penalty),
            f"frequency_penalty={self.frequency_penalty} (a finite number)": not math.isfinite(self.frequency_penalty),
        }
        if any(wrong.values()):
            raise UsageError(f"Impossible sampling: {', '.join(text for text, is_so in wrong.items() if is_so)}.")


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that was chosen, its log-probability under the model itself, and the likeliest tokens with theirs.

    `start` is where its text begins in the answer: tokens that are parts of one character begin where that does.
    """

    start: int
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `token_ids` leave out the stop token; `seconds` is the time until it was whole."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """A score over `n` rows with its 95 % interval, which one row does not give except of a share."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second model minus the first on the same `n` rows: the difference, its 95 % interval, what may be said."""

    difference: float
    low: float | None
    high: float | None
    p_value: float
    verdict: str
    n: int
