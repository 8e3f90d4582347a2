"""How likely a model finds the reference answers: the loss of training, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from heedful.encode.batch import Collator
from heedful.records import TokenizedExample
from heedful.train.loss import prediction_nll

BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Summed negative log-likelihood, in nats, of each row's supervised tokens, and their number."""

    nll: list[float]
    targets: list[int]


def likelihood(model: PreTrainedModel, examples: Sequence[TokenizedExample]) -> Likelihood:
    """Measure every example, in order, each in a row of its own."""
    collator = Collator("padded", pad_id=0, prompt_weight=0.0, batch_tokens=BATCH_TOKENS)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]))
    nll: list[float] = []
    with torch.inference_mode():
        for batch in collator.batches([examples[i] for i in order]):
            of_row = batch.predictions.source // batch.input_ids.shape[1]
            sums = torch.zeros(len(batch.input_ids), dtype=torch.float64)
            sums.index_add_(0, of_row, prediction_nll(model, batch).double())
            nll += sums.tolist()
    of = dict(zip(order, nll, strict=True))
    return Likelihood([of[i] for i in range(len(examples))], [int(e.supervised.sum()) for e in examples])
