"""The pictures of a run.

Enters: the events of metrics.jsonl. Leaves: files, whole or absent, the same bytes for the same events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heedful.system.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Event = Mapping[str, Any]
Values = NDArray[np.float64]

BLUE, VERMILION, INK, FAINT = "#0072B2", "#D55E00", "#333333", "#8A8A8A"  # Okabe and Ito's, told apart by everyone
GRID = "#E6E6E6"
ON_DARK = {BLUE: "#6cb4ee", VERMILION: "#f2955b", INK: "#dcd9d4", FAINT: "#908b83", GRID: "#302e2b"}
WIDE, NARROW = (7.2, 4.2), (4.4, 3.6)  # inches
SMOOTH_FROM = 40  # points; fewer are read as they are
MARKERS_TO = 40  # points; more would hide their line
FLAT = 0.01  # of a loss: less is not shown as a rise or a fall
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that each machine draws the same picture
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "heedful",  # ids by content, not by chance
}


@dataclass(frozen=True)
class Curve:
    """A loss over epochs. A loss that is not finite is NaN: a gap in the line."""

    epochs: Values
    losses: Values

    @property
    def last(self) -> float:
        """The last finite loss."""
        return float(self.losses[np.isfinite(self.losses)][-1])

    def __bool__(self) -> bool:
        return bool(np.isfinite(self.losses).any())


def loss_plot(events: Sequence[Event], out: Path) -> None:
    """Draw training and validation loss over epochs and tokens seen; write them as `out` with .pdf and with .svg."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        _save(_drawn(events, WIDE), out)


def loss_pictures(events: Sequence[Event]) -> dict[str, bytes]:
    """Draw the same for a page: SVGs without a ground, wide and narrow, for a light and for a dark page."""
    from matplotlib import rc_context

    pictures = {}
    with rc_context(STYLE):
        for shape, size in (("wide", WIDE), ("narrow", NARROW)):
            light = _svg(_drawn(events, size), facecolor="none")
            pictures[f"{shape}_light"] = light
            for color, on_dark in ON_DARK.items():
                light = light.replace(color.lower().encode(), on_dark.encode())
            pictures[f"{shape}_dark"] = light
    return pictures


def _drawn(events: Sequence[Event], size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    steps = [event for event in events if event["event"] == "step"]
    validations = [event for event in events if event["event"] == "validation"]
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_facecolor("none")
    _prepare(axes, end=max((event["epoch"] for event in steps + validations), default=0) or 1)
    _draw_curves(axes, steps, validations)
    _draw_tokens(axes, steps + validations)
    return figure


def _prepare(axes: Axes, end: float) -> None:
    """Set up the axes from epoch 0 to the end, with lines to read a loss by and nothing else."""
    axes.set(xlabel="Epochs", ylabel="Loss (nats per token)", xlim=(-0.02 * end, 1.02 * end))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_curves(axes: Axes, steps: Sequence[Event], validations: Sequence[Event]) -> None:
    raw, training = _curve(steps, "loss"), _curve(validations, "train_loss")
    validation = _curve(validations, "validation_loss")
    smooth = training or (_smoothed(raw) if len(raw.losses) >= SMOOTH_FROM else raw)
    labels = []
    if raw:
        _line(axes, raw, BLUE, linewidth=0.6, alpha=0.35)
    if smooth:
        _line(axes, smooth, BLUE, linewidth=1.8)
        labels.append((smooth.last, f"Training\n{smooth.last:.3f}", BLUE))
    if validation:
        _line(axes, validation, VERMILION, linewidth=1.8, marker="o")
        labels.append((validation.last, _mark_best(axes, validation), VERMILION))
    low, high = axes.get_ylim()
    if (missing := FLAT * max(abs(low), abs(high)) - (high - low)) > 0:  # ticks would all read the same
        axes.set_ylim(low - missing / 2, high + missing / 2)
    if not labels:
        axes.text(0.5, 0.5, "No finite loss was logged.", transform=axes.transAxes, ha="center")
    _label_ends(axes, labels)


def _curve(events: Sequence[Event], key: str) -> Curve:
    points = [(event["epoch"], event[key]) for event in events if key in event]  # None is not finite
    epochs, losses = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return Curve(epochs, np.where(np.isfinite(losses), losses, np.nan))


def _smoothed(curve: Curve) -> Curve:
    """Fit a line around each point, with Gaussian weights over about a thirtieth of the run; gaps stay gaps.

    Local linear regression (Cleveland 1979): unlike an average it does not flatten the steep start. With the weighted
    moments S of the places and T of the losses, the fit at 0 is (S2 T0 - S1 T1) / (S0 S2 - S1^2).
    """
    from scipy.signal import fftconvolve

    width = len(curve.losses) / 30
    reach = np.arange(-int(3 * width), int(3 * width) + 1) / width
    kernel = np.exp(-(reach**2) / 2)
    finite = np.isfinite(curve.losses)
    losses = np.where(finite, curve.losses, 0)
    s0, s1, s2 = (fftconvolve(finite.astype(float), kernel * reach**power, mode="same") for power in (0, 1, 2))
    t0, t1 = (fftconvolve(losses, kernel * reach**power, mode="same") for power in (0, 1))
    spread = s0 * s2 - s1**2
    lonely = spread < 1e-9  # no other point within reach: it stands for itself
    fitted = (s2 * t0 - s1 * t1) / np.where(lonely, 1, spread)
    return Curve(curve.epochs, np.where(finite & ~lonely, fitted, curve.losses))


def _line(axes: Axes, curve: Curve, color: str, marker: str = "", **style: Any) -> None:
    """Draw the curve; with dots where a line alone would not be seen."""
    dots = marker if len(curve.losses) <= MARKERS_TO else ""
    alone = np.isfinite(curve.losses).sum() == 1
    axes.plot(curve.epochs, curve.losses, color=color, marker="o" if alone else dots, markersize=3.6, **style)


def _mark_best(axes: Axes, validation: Curve) -> str:
    """Put a ring around the lowest validation loss; return the label that explains it."""
    best = int(np.nanargmin(validation.losses))
    epoch, loss = validation.epochs[best], validation.losses[best]
    axes.plot(epoch, loss, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=VERMILION)
    at_end = np.isnan(validation.losses[best + 1 :]).all()
    return f"Validation\n{loss:.3f}, best" if at_end else f"Validation\n{validation.last:.3f}\nbest {loss:.3f} ○"


def _label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Name each line where it ends, at the right of the axes, at least a label's height apart."""
    low, high = axes.get_ylim()
    heights = [(loss - low) / (high - low) for loss, _, _ in labels]
    if len(heights) == 2:
        upper = int(heights[1] >= heights[0])
        missing = max(0.15 - abs(heights[1] - heights[0]), 0) / 2
        heights[upper] += missing
        heights[1 - upper] -= missing
    for height, (_, text, color) in zip(heights, labels, strict=True):
        axes.annotate(text, (1.02, height), xycoords="axes fraction", color=color, va="center", linespacing=1.35)


def _draw_tokens(axes: Axes, events: Sequence[Event]) -> None:
    """Put round numbers of tokens on the upper axis, at the epochs by which they had been seen."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    seen = sorted({(0.0, 0.0)} | {(float(event["epoch"]), float(event["tokens"])) for event in events})
    epochs, tokens = np.array(seen).T
    ticks = [
        tick
        for tick in MaxNLocator(6, steps=[1, 2, 5, 10], integer=True).tick_values(0, tokens[-1])
        if tick <= tokens[-1]
    ]
    top = axes.secondary_xaxis("top")
    top.set_xticks(np.interp(ticks, tokens, epochs), [EngFormatter(sep="")(tick) for tick in ticks])
    top.set_xlabel("Tokens seen")


def _save(figure: Figure, out: Path) -> None:
    content = BytesIO()
    figure.savefig(content, format="pdf", metadata={"CreationDate": None})
    atomic_write(out.with_suffix(".pdf"), content.getvalue())
    atomic_write(out.with_suffix(".svg"), _svg(figure))


def _svg(figure: Figure, **style: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None}, **style)
    return content.getvalue()
