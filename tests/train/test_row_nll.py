"""What each row cost while it was learned: the same in a tree, padded, in many forwards, or alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.models import tiny_model
from tests.train.test_loss import collator, rows_that_share

from heedful.config import TrainConfig
from heedful.train.learner import Learner
from heedful.train.loss import summed_nll


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("limit", [60, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_each_row_costs_what_it_costs_alone(layout: str, limit: int, share: float) -> None:
    """A shared beginning counts for each row; the prompt's share of the loss does not count."""
    rows = [replace(row, id=str(k)) for k, row in enumerate(rows_that_share(1))]
    model = tiny_model("llama")
    with torch.no_grad():
        alone = [float(summed_nll(model, batch)) for row in rows for batch in collator("padded").batches([row])]
    learner = Learner(model, collator(layout, share, limit), TrainConfig(precision="fp32"), steps=1)
    _, row_nll = learner.accumulate(rows, 0)
    assert row_nll == pytest.approx(alone, rel=1e-5)
