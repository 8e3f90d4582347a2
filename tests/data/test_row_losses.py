"""What each row cost, by epoch: at its place, once, and only as far as it was trained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from heedful.data.row_losses import RowLosses


def test_each_row_stands_at_its_place(tmp_path: Path) -> None:
    losses = RowLosses(tmp_path / "rows.bin", 3)
    losses.keep(1, [2, 0], [6.0, 1.0], [3, 1])
    losses.keep(0, [1], [4.0], [2])
    nll, tokens = losses.per_token()
    np.testing.assert_array_equal(nll, [[np.nan, 2.0, np.nan], [1.0, np.nan, 2.0]])
    assert tokens.tolist() == [1, 2, 3]


def test_what_is_written_twice_stands_once(tmp_path: Path) -> None:
    losses = RowLosses(tmp_path / "rows.bin", 3)
    losses.keep(0, [0, 1], [1.0, 2.0], [1, 1])
    before = losses.path.read_bytes()
    losses.keep(0, [1], [2.0], [1])
    assert losses.path.read_bytes() == before


def test_a_row_that_cost_nothing_was_trained_on(tmp_path: Path) -> None:
    losses = RowLosses(tmp_path / "rows.bin", 2)
    losses.keep(0, [1], [0.0], [4])
    np.testing.assert_array_equal(losses.per_token()[0], [[np.nan, 0.0]])


def test_what_will_be_trained_again_is_forgotten(tmp_path: Path) -> None:
    losses, fresh = RowLosses(tmp_path / "rows.bin", 4), RowLosses(tmp_path / "fresh.bin", 4)
    for epoch in range(3):
        losses.keep(epoch, range(4), [float(epoch + 1)] * 4, [1] * 4)
    losses.forget_from(1, [3, 0])
    fresh.keep(0, range(4), [1.0] * 4, [1] * 4)
    fresh.keep(1, [3, 0], [2.0, 2.0], [1, 1])
    assert losses.path.read_bytes() == fresh.path.read_bytes()
    losses.forget_from(0)
    assert losses.path.read_bytes() == b""


@pytest.mark.parametrize("written", [0, 4, 12, 24])
def test_a_kill_while_rows_are_forgotten_costs_none_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Killed after any number of bytes; those who come next forget the rest."""
    losses, fresh = RowLosses(tmp_path / "rows.bin", 4), RowLosses(tmp_path / "fresh.bin", 4)
    losses.keep(0, range(4), [1.0] * 4, [1] * 4)
    losses.keep(1, range(4), [2.0] * 4, [1] * 4)
    fresh.keep(0, range(4), [1.0] * 4, [1] * 4)
    fresh.keep(1, [2, 0], [2.0, 2.0], [1, 1])
    pwrite = os.pwrite

    def killed(descriptor: int, data: bytes, offset: int) -> None:
        pwrite(descriptor, data[:written], offset)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(os, "pwrite", killed)
        with pytest.raises(KeyboardInterrupt):
            losses.forget_from(1, [2, 0])
    assert losses.per_token()[0][1, [2, 0]].tolist() == [2.0, 2.0]
    losses.forget_from(1, [2, 0])
    assert losses.path.read_bytes() == fresh.path.read_bytes()


def test_a_run_that_has_not_begun_has_no_losses(tmp_path: Path) -> None:
    losses = RowLosses(tmp_path / "rows.bin", 4)
    losses.forget_from(2, [])
    nll, tokens = losses.per_token()
    assert nll.shape == (0, 4)
    assert tokens.tolist() == [0, 0, 0, 0]
