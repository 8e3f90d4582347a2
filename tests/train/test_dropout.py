"""What is dropped in training, and that validation drops nothing and counts answers alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.train.sessions import session

from heedful.train.learner import Learner


def learner(path: Path, *settings: str) -> tuple[Learner, list[float]]:
    """Return a learner, and what two rows cost it at the steps 0, 0 and 1."""
    made = session(path, "model.dropout=0.3", *settings)
    rows = made.ready.train[:2]
    losses = []
    for step in (0, 0, 1):
        losses.append(made.learner.accumulate(rows, step)[0])
        made.learner.optimizer.clear()
    return made.learner, losses


def test_each_update_and_each_seed_drops_others(tmp_path: Path) -> None:
    """The weights and the rows are the same, so only what is dropped tells the losses apart."""
    _, (first, again, next_step) = learner(tmp_path / "one")
    assert first == again != next_step
    _, (other_seed, *_) = learner(tmp_path / "two", "train.seed=7")
    assert other_seed != first
    _, (whole, _, whole_later) = learner(tmp_path / "three", "model.dropout=0")
    assert whole == whole_later != first


@pytest.mark.parametrize("change", ["model.dropout=0", "encode.prompt_weight=0.5"])
def test_a_validation_drops_nothing_and_counts_answers_alone(tmp_path: Path, change: str) -> None:
    """Also after an update, from which the model is left in training."""
    rows = session(tmp_path / "rows").ready.validation
    found = [learner(tmp_path / name, *more)[0].validate(rows) for name, more in (("one", ()), ("other", (change,)))]
    assert found[0] == pytest.approx(found[1])
