"""Curves over steps or epochs: losses, metrics, schedules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from convae.core.errors import DataError
from convae.pictures.figure import heighten, legend_below, legend_text, panelled, styled
from convae.pictures.images import array
from convae.pictures.style import BLUE, PALETTE, VERMILION
from convae.pictures.thinning import thinned

__all__ = ["curves"]

Line = tuple[ArrayLike, ArrayLike]
"""x and y, (point,) each; y may have gaps (NaN)."""
MOST = 3000
"""Largest number of points of a drawn line."""
LETTER = 0.025
"""Approximate width of a letter of a stage name, as a fraction of the panel's."""
STAGE = "#6e6e6e"
DENSE = 500
"""Number of points above which a line is drawn thinner."""
KNOWN = {"train": BLUE, "validation": VERMILION}
"""Labels with a fixed color."""


def _points(line: Line, where: str, positive: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The drawn points of a line; non-finite values, and non-positive ones if `positive`, become NaN."""
    x, y = (array(values).astype(np.float64) for values in line)
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(f"{where}: x and y must have the same length, got shapes {x.shape} and {y.shape}")
    y = np.where(np.isfinite(y) & (y > 0 if positive else True), y, np.nan)
    kept = thinned(y, MOST)
    return x[kept], y[kept]


def _draw(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], color: str) -> None:
    """Draws a line, and isolated points as dots."""
    gap = np.isnan(np.concatenate([[np.nan], y, [np.nan]]))
    lonely = ~gap[1:-1] & gap[:-2] & gap[2:]
    axes.plot(x, y, color=color, linewidth=1.6 if len(x) < DENSE else 0.8)
    axes.plot(x[lonely], y[lonely], color=color, linestyle="", marker="o", markersize=4)


def _colors(labels: Collection[str]) -> dict[str, str]:
    """A color for each label."""
    free = [color for color in PALETTE if color not in {KNOWN[label] for label in labels if label in KNOWN}]
    others = [label for label in labels if label not in KNOWN]
    return KNOWN | {label: free[place % len(free)] for place, label in enumerate(others)}


def _mark(axes: Axes, stages: Sequence[tuple[float, str]]) -> int:
    """Marks the starts of stages by thin lines with names above the panel; returns the number of rows of names."""
    low, high = axes.get_xlim()
    ends: list[float] = []
    for start, name in sorted((start, legend_text(name)) for start, name in stages):
        place = (start - low) / (high - low)
        if not 0 <= place <= 1:
            continue
        axes.axvline(start, color=STAGE, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
        width = len(name) * LETTER
        before = place + width > 1 and place - width >= 0  # right-aligned where it would exceed the panel
        left = place - width if before else place
        level = next((number for number, end in enumerate(ends) if end < left), len(ends))
        ends[level : level + 1] = [left + width + LETTER]
        axes.annotate(
            name,
            (place, 1),
            xycoords="axes fraction",
            xytext=(0, 3 + 10 * level),
            textcoords="offset points",
            ha="right" if before else "left",
            fontsize=8,
        )
    axes.set_xlim(low, high)
    return len(ends)


def curves(
    series: Mapping[str, Mapping[str, Line]],
    *,
    x_label: str,
    units: Mapping[str, str] | None = None,
    title: str | None = None,
    logarithmic: Collection[str] = (),
    stages: Sequence[tuple[float, str]] = (),
) -> Figure:
    """One panel per quantity, with one line per label.

    Args:
        series: (x, y) by panel and label, such as `{"kl": {"train": (steps, values), "validation": …}}`.
        x_label: label of the x axis, such as `epoch`.
        units: unit of the y axis by panel, such as `nats per image`.
        title: title.
        logarithmic: panels with a logarithmic y axis; non-positive values are gaps.
        stages: start on the x axis and name of each stage.

    Raises:
        DataError: no lines, or x and y of different lengths.
    """
    if not series or not all(series.values()):
        raise DataError("curves: expected at least one panel, and at least one line in each")
    labels = list(dict.fromkeys(label for lines in series.values() for label in lines))
    colors = _colors(labels)
    columns = min(len(series), 3 if len(series) not in (2, 4) else 2)
    size = (7.2, 4.2) if columns == 1 else (4.0, 3.0)
    with styled():
        figure, places = panelled(len(series), columns=columns, size=size, title=title)
        for axes, (panel, lines) in zip(places, series.items(), strict=True):
            axes.set_xlabel(x_label)
            axes.set_ylabel((units or {}).get(panel, ""))
            points = {
                label: _points(line, f"panel '{panel}', line '{label}'", panel in logarithmic)
                for label, line in lines.items()
            }
            if panel in logarithmic and any(np.isfinite(y).any() for _, y in points.values()):
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.yaxis.set_minor_formatter(LogFormatter())
            for label, (x, y) in points.items():
                _draw(axes, x, y, colors[label])
            if all((x == np.rint(x)).all() for x, _ in points.values()):
                axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
            levels = _mark(axes, stages)
            axes.set_title(panel, pad=6 + 10 * levels)
            if axes in places[::columns]:
                heighten(figure, 10 * levels / 72)
        if len(labels) > 1:
            legend_below(figure, [Line2D([], [], color=colors[label], label=legend_text(label)) for label in labels])
    return figure
