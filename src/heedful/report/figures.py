"""Where the marks of a page's small pictures stand: plain numbers, which a template writes into SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.report.labels import counted

Figure = dict[str, Any]

WIDTH, ROW, EDGE = 220, 15, 6  # of the interval plot, in pixels
BARS = (480, 130)
MAP = (720, 360)
MAP_LEFT, MAP_BELOW = 56, 50  # room for the larger letters of a small screen
TICKS = (0, 0.25, 1, 2, 4, 6, 9, 12, 16)  # or ten, a hundred ... times as much
MOST_POINTS = 8_000  # of one kind that are drawn


def interval_plot(scores: Sequence[Mapping[str, float | None] | None], low: float, high: float) -> Figure:
    """Lay out one dot with its whisker for each model, on a scale from low to high; a model without a score leaves its
    line empty, and a score without an interval has no whisker."""

    def at(value: float | None) -> float | None:
        if value is None:
            return None
        return round(EDGE + (WIDTH - 2 * EDGE) * (min(max(value, low), high) - low) / ((high - low) or 1), 1)

    kinds = ["before", *["middle"] * (len(scores) - 2), "after"] if len(scores) > 1 else ["after"]
    marks = [
        {"kind": kind, "y": ROW // 2 + 1 + k * ROW, **{name: at(score[name]) for name in ("low", "value", "high")}}
        for k, (kind, score) in enumerate(zip(kinds, scores, strict=True))
        if score
    ]
    return {"width": WIDTH, "height": ROW * len(scores) + 2, "left": at(max(low, 0.0)), "marks": marks}


def histogram_plot(histogram: Mapping[str, Sequence[int]]) -> Figure:
    """Lay out the bars of a histogram of lengths, and say it in words."""
    (width, height), edges, rows = BARS, histogram["edges"], histogram["rows"]
    floor, step, most = height - 20, width / len(rows), max(*rows, 1)
    bars = [
        {
            "x": round(k * step + 0.5, 2),
            "width": round(max(step - 1, 0.5), 2),
            "y": round(floor - (floor - 4) * count / most, 2),
            "height": round((floor - 4) * count / most, 2),
            "title": f"{edges[k]:,} to {edges[k + 1] - 1:,} tokens: {count:,} rows",
        }
        for k, count in enumerate(rows)
    ]
    fullest = max(range(len(rows)), key=lambda k: rows[k])
    alt = (
        f"{counted(sum(rows), 'row')} of up to {edges[-1] - 1:,} tokens; the highest bar has {rows[fullest]:,}, of "
        f"{edges[fullest]:,} to {edges[fullest + 1] - 1:,}."
    )
    middle = len(edges) // 2
    ticks = [
        {"x": round(k * step, 1), "text": f"{edges[k]:,}", "anchor": anchor}
        for k, anchor in ((0, "start"), (middle, "middle"), (len(edges) - 1, "end"))
    ]
    return {"width": width, "height": height, "floor": floor, "bars": bars, "ticks": ticks, "alt": alt}


def map_plot(
    first: NDArray[np.float64], last: NDArray[np.float64], kinds: Sequence[str], names: tuple[str, str]
) -> Figure:
    """Lay out a point for each row: its loss in the first epoch across, its last upwards, both as square roots."""
    width, height = MAP
    floor = height - MAP_BELOW
    points = np.stack([first, last])
    drawn = np.isfinite(points).all(axis=0)
    top = float(points[:, drawn].max(initial=1.0))

    def across(values: Any) -> Any:
        return MAP_LEFT + (width - MAP_LEFT - 10) * np.sqrt(values / top)

    def up(values: Any) -> Any:
        return floor - (floor - 10) * np.sqrt(values / top)

    paths = {}
    for kind in ("easy", "hard", "suspect"):
        chosen = np.flatnonzero(drawn & (np.array(kinds) == kind))
        chosen = chosen[:: len(chosen) // MOST_POINTS + 1]
        places = zip(across(first[chosen]), up(last[chosen]), strict=True)
        paths[kind] = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    unit = 10 ** max(0, math.ceil(math.log10(top / TICKS[-1])))
    ticks = [value * unit for value in TICKS if value * unit <= top]
    return {
        "width": width, "height": height, "left": MAP_LEFT, "floor": floor, "paths": paths,
        "diagonal": {"x": round(float(across(top)), 1), "y": round(float(up(top)), 1)},
        "across": [{"at": round(float(across(value)), 1), "text": _short(value)} for value in ticks],
        "up": [{"at": round(float(up(value)), 1), "text": _short(value)} for value in ticks],
        "x_name": names[0], "y_name": names[1],
    }  # fmt: skip


def _short(value: float) -> str:
    """Write 12,000 as 12k: letters beside an axis have little room."""
    return f"{value:g}" if value < 1000 else f"{value / 1000:g}k"
