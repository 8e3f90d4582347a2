"""What the losses of a training say of its rows: easy, hard, suspect, or never met.

Training dynamics as a map of a data set: Swayamdipta et al. 2020. A row whose answer does not belong to its question
cannot be learned from the other rows. So it costs much when it is met first, and falls, if at all, only once the model
has seen the row itself: by memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from heedful.data.row_losses import Losses, RowLosses
from heedful.data.split import Numbers
from heedful.records import Conversation
from heedful.run import Run
from heedful.system.atomic import write_json

SUSPECT = 0.03  # of the rows, those of most suspicion
EASY = 0.5  # of the rows, those that cost least in the end
FALLING = 0.5  # of the first loss: below it, a suspect row fell by memory
NEAR = 32  # rows before and after, with which a row is compared
SMALL = 0.01  # nats: below it, costs do not differ
LISTED = 1_000  # rows that the run keeps with their text
KINDS = {"e": "easy", "h": "hard", "s": "suspect", "u": "unmet"}  # or met without a finite loss
LIMITS = (
    f"Each row by what its answer cost while it was learned. Suspect are the {100 * SUSPECT:.0f} % that cost most "
    "beside rows learned at the same time: look whether their answers belong to their questions. Nothing was left out "
    "of the training for it."
)


@dataclass(frozen=True)
class DataMap:
    """Suspicion of each row, [rows], NaN where it was not trained on; and which rows are suspect, and which easy."""

    suspicion: Losses
    suspect: NDArray[np.bool_]
    easy: NDArray[np.bool_]

    def kinds(self) -> str:
        """Return a letter of KINDS for each row."""
        met = np.isfinite(self.suspicion)
        return np.select([~met, self.suspect, self.easy], [b"u", b"s", b"e"], b"h").tobytes().decode()

    def order(self) -> Numbers:
        """Return the rows that were trained on, the most suspect first."""
        order = np.argsort(-np.nan_to_num(self.suspicion, nan=-np.inf), kind="stable")
        return order[np.isfinite(self.suspicion[order])]


def data_map(nll: Losses, tokens: Numbers, orders: Sequence[Numbers]) -> DataMap:
    """Judge rows by their NLL per token, [epochs, rows], and their supervised tokens [rows].

    `orders` lists the rows of each epoch as they were learned.
    """
    epochs = [_beside_others(some, tokens, order) for some, order in zip(nll, orders, strict=False)]
    suspicion = _mean(epochs, len(tokens))
    suspect = _highest(suspicion, SUSPECT)
    easy = _highest(-last_losses(nll), EASY) & ~suspect
    return DataMap(suspicion, suspect, easy)


def _beside_others(nll: Losses, tokens: Numbers, order: Numbers) -> Losses:
    """Compare each row's cost in one epoch with that of the rows learned just before and after it.

    A cost is log(NLL per token * sqrt(tokens)): a mean over few tokens strays further. All costs fall while a model
    learns, so each stands beside the median of those of its time.
    """
    found = np.full(len(nll), np.nan)
    order = order[np.isfinite(nll[order])]
    costs = np.log(nll[order] * np.sqrt(tokens[order]) + SMALL)
    found[order] = costs - scipy.ndimage.median_filter(costs, 2 * NEAR + 1, mode="reflect")
    return found


def _mean(epochs: Sequence[Losses], rows: int) -> Losses:
    """Return the mean over the epochs in which a row was learned, NaN if there is none."""
    table = np.array(epochs).reshape(-1, rows)
    learned = np.isfinite(table).sum(axis=0)
    return np.where(learned > 0, np.nansum(table, axis=0) / np.maximum(learned, 1), np.nan)


def last_losses(nll: Losses) -> Losses:
    """Give each row's last loss."""
    last = np.full(nll.shape[1], np.nan)
    for epoch in nll:
        last = np.where(np.isfinite(epoch), epoch, last)
    return last


def _highest(values: Losses, share: float) -> NDArray[np.bool_]:
    """Mark the highest of the finite values, as many as `share` of them, rounded up."""
    found = np.zeros(len(values), np.bool_)
    finite = np.flatnonzero(np.isfinite(values))
    count = math.ceil(len(finite) * share)
    found[finite[np.argsort(-values[finite], kind="stable")[:count]]] = True
    return found


def write_data_map(
    run: Run, orders: Sequence[Numbers], conversation: Callable[[int], Conversation], rows: int
) -> dict[str, Any]:
    """Write data-map.json: of which kind each row is, and the most suspect ones with their place and text."""
    nll, tokens = RowLosses(run.row_losses_file, rows).per_token()
    found = data_map(nll, tokens, orders)
    kinds = found.kinds()
    result = {
        "rows": rows,
        "trained": int(np.isfinite(found.suspicion).sum()),
        **{kind: kinds.count(letter) for letter, kind in KINDS.items()},
        "kinds": kinds,
        "look": [_listed_row(conversation(int(row)), nll[:, row]) for row in found.order()[:LISTED]],
    }
    write_json(run.data_map_file, result)
    return result


def _listed_row(conversation: Conversation, losses: Losses) -> dict[str, Any]:
    """Tell of one row where it stands, what it says, what it cost, and why it is worth a look."""
    return {
        "place": str(conversation.place),
        "question": "\n\n".join(conversation.asked),
        "answer": conversation.answer,
        "losses": [round(float(loss), 3) if np.isfinite(loss) else None for loss in losses],
        "why": why(losses),
    }


def losses_in_words(losses: Sequence[float | None], arrow: str = "→") -> str:
    """Write a row's losses, epoch by epoch; where it was not met, a question mark."""
    return f" {arrow} ".join("?" if loss is None else f"{loss:.2f}" for loss in losses)


def why(losses: Sequence[float] | Losses) -> str:
    """Say in which way a row's losses are suspect."""
    seen = [float(loss) for loss in losses if np.isfinite(loss)]
    if len(seen) < 2:
        return "high"
    return "high, and falling only by memory" if seen[-1] < FALLING * seen[0] else "high, and not halved"
