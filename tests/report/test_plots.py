"""The loss plot: written whole for any history, the same bytes for the same events, its words where they belong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heedful.report import plots

matplotlib.use("agg")


def history(steps: int, every: int = 10, epochs: float = 2.0) -> list[dict[str, Any]]:
    """A run whose validation loss is lowest in the middle."""
    events: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        at = {"step": step, "epoch": step / steps * epochs, "tokens": 1000 * step}
        events.append({"event": "step", "loss": 2 / step + 0.5 + 0.1 * (step % 2), **at})
        if step % every == 0:
            events.append({"event": "validation", "validation_loss": 0.7 + (2 * step / steps - 1) ** 2, **at})
    return [*events, {"event": "sample", "step": steps}]


def without(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] != kind]


HISTORIES = {
    "nothing": [],
    "one step": history(1),
    "few": history(12, every=6),
    "many": history(400),
    "no validation": without(history(60), "validation"),
    "no steps": without(history(60), "step"),
    "all NaN": [{**event, "loss": None} for event in without(history(60), "validation")],
    "validation NaN": [{**event, "validation_loss": None} for event in history(60)],
    "some NaN": [{**event, "loss": math.inf} if 20 < event["step"] < 40 else event for event in history(60)],
    "lonely": [{**event, "loss": None} if event["step"] not in (3, 55) else event for event in history(60)],
    "tutorial": [{**event, "train_loss": 0.6} if event["event"] == "validation" else event for event in history(60)],
    "untrained": [{"event": "validation", "step": 0, "epoch": 0.0, "tokens": 0, "validation_loss": 2.1}],
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, Any]]], Axes]:
    """Draw a history and return its axes instead of saving them."""

    def draw(events: list[dict[str, Any]]) -> Axes:
        figures: list[Figure] = []
        monkeypatch.setattr(plots, "_save", lambda figure, out: figures.append(figure))
        plots.loss_plot(events, Path("unused"))
        return figures[0].axes[0]

    return draw


@pytest.mark.parametrize("name", HISTORIES)
def test_any_history_is_drawn(name: str, tmp_path: Path) -> None:
    plots.loss_plot(HISTORIES[name], tmp_path / "loss-plot.pdf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss-plot.pdf", "loss-plot.svg"]
    assert (tmp_path / "loss-plot.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "loss-plot.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plots.loss_plot(HISTORIES["many"], tmp_path / name)
    for suffix in (".pdf", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert "<dc:date>" not in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_settings_of_the_process_are_left_alone(tmp_path: Path) -> None:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        plots.loss_plot(HISTORIES["few"], tmp_path / "a.pdf")
        assert dict(matplotlib.rcParams) == before


def test_labels_say_the_last_and_the_best(drawn: Callable[..., Axes]) -> None:
    texts = {text.get_text() for text in drawn(HISTORIES["many"]).texts}
    assert "Validation\n1.700\nbest 0.700 ○" in texts
    assert any(text.startswith("Training\n0.5") for text in texts)
    assert "Validation\n2.100, best" in {text.get_text() for text in drawn(HISTORIES["untrained"]).texts}
    assert {text.get_text() for text in drawn(HISTORIES["all NaN"]).texts} == {"No finite loss was logged."}


def test_the_ring_is_at_the_best(drawn: Callable[..., Axes]) -> None:
    ring = next(line for line in drawn(HISTORIES["many"]).lines if line.get_markerfacecolor() == "none")
    assert ([*ring.get_xdata()], [*ring.get_ydata()]) == ([1.0], [pytest.approx(0.7)])
    first_lost = [{**event, "validation_loss": None} if event["step"] == 10 else event for event in HISTORIES["many"]]
    ring = next(line for line in drawn(first_lost).lines if line.get_markerfacecolor() == "none")
    assert [*ring.get_ydata()] == [pytest.approx(0.7)]


def test_labels_keep_their_distance(drawn: Callable[..., Axes]) -> None:
    level = [{**event, "loss": 0.7, "validation_loss": 0.7} for event in HISTORIES["few"]]
    heights = sorted(text.xy[1] for text in drawn(level).texts)
    assert heights[1] - heights[0] == pytest.approx(0.15)


def test_tokens_stand_above_the_epochs_that_saw_them(drawn: Callable[..., Axes]) -> None:
    top = drawn(HISTORIES["many"]).child_axes[0]  # 400 steps of 1,000 tokens in 2 epochs
    ticks = dict(zip((label.get_text() for label in top.get_xticklabels()), top.get_xticks(), strict=True))
    assert ticks["0"] == 0
    assert ticks["200k"] == pytest.approx(1.0)
    assert top.get_xlabel() == "Tokens seen"


def test_the_trainings_evaluated_loss_is_preferred(drawn: Callable[..., Axes]) -> None:
    texts = {text.get_text() for text in drawn(HISTORIES["tutorial"]).texts}
    assert "Training\n0.600" in texts


def test_smoothing_keeps_straight_lines_and_gaps() -> None:
    epochs = np.linspace(0, 1, 90)
    straight = 2 - epochs
    straight[40:50] = np.nan
    smooth = plots._smoothed(plots.Curve(epochs, straight)).losses
    np.testing.assert_allclose(smooth, straight, atol=1e-9)


def test_smoothing_calms_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 600)
    smooth = plots._smoothed(plots.Curve(np.arange(600.0), noise)).losses
    assert np.std(smooth) < 0.25


def test_a_loss_that_is_not_finite_is_a_gap(drawn: Callable[..., Axes]) -> None:
    """As metrics.jsonl has it: null."""
    line = drawn([{**event, "loss": None} if event["step"] in (5, 6) else event for event in history(12)]).lines[0]
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [4, 5]


@pytest.mark.parametrize("loss", [5.8233891, 1e-7, 2e6])
def test_an_almost_constant_loss_has_a_scale_that_can_be_read(loss: float, drawn: Callable[..., Axes]) -> None:
    steps = without(history(12), "validation")
    axes = drawn([{**event, "loss": loss * (1 + 1e-9 * event["step"])} for event in steps])
    axes.figure.canvas.draw()
    texts = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(texts)) == len(texts) > 2 and axes.yaxis.get_offset_text().get_text() == ""
