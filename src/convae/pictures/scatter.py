"""Scatter plots of two-dimensional points colored by label, such as projected latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

from convae.core.errors import DataError, ShapeError
from convae.core.names import count_text
from convae.pictures.figure import legend_text, panelled, styled
from convae.pictures.images import array
from convae.pictures.style import PALETTE, PAPER

__all__ = ["scatter"]

CROWD = 20_000
"""Number of points above which their density is drawn."""
CELLS = 240
"""Number of cells of the density along each axis."""
MARKERS = {"o": 1.0, "s": 0.8, "^": 1.2, "D": 0.7, "v": 1.2, "P": 1.2, "X": 1.2, "<": 1.2, ">": 1.2, "*": 1.9}
"""Markers, with factors that make them look equally large."""
CLASSES = 30
"""Largest number of classes, as combinations of colors and markers."""
LISTED = 15
"""Entries in a column of the legend."""
APART = 0.75
"""A class is labeled at its median if at least this fraction of the points nearest to it belong to the class."""
FLATTEST = 0.45
"""Smallest aspect ratio of the plot."""


def class_look(place: int) -> tuple[str, str]:
    """Color and marker of a class: ten of each; markers shift by one every ten classes."""
    return PALETTE[place % 10], tuple(MARKERS)[(place + place // 10) % 10]


def _checked(points: ArrayLike, labels: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.intp], list[object]]:
    """Validates points and labels; returns points, the index of the class of each, and the classes."""
    found = array(points).astype(np.float64)
    if found.ndim != 2 or found.shape[1] != 2:
        raise ShapeError(f"scatter: expected points (point, 2), got {found.shape}")
    if not len(found) or not np.isfinite(found).all():
        raise DataError("scatter: expected at least one point, with finite coordinates")
    if labels is None:
        return found, np.zeros(len(found), np.intp), []
    given = array(labels)
    if given.shape != (len(found),):
        raise ShapeError(f"scatter: expected {count_text(len(found), 'label')}, one per point, got {given.shape}")
    classes, place = np.unique(given, return_inverse=True)
    if len(classes) > CLASSES:
        raise DataError(f"scatter: expected at most {CLASSES} classes, got {len(classes)}")
    return found, place, classes.tolist()


def _dots(axes: Axes, points: NDArray[np.float64], place: NDArray[np.intp], classes: int) -> None:
    """Draws every point, alternating between classes so that none covers the others."""
    size = float(np.clip(24_000 / len(points), 6, 40))
    for part in np.array_split(np.arange(len(points)), max(1, min(4, len(points) // 100))):
        for number in range(classes):
            x, y = points[part[place[part] == number]].T
            color, marker = class_look(number)
            axes.scatter(x, y, s=size * MARKERS[marker], c=color, marker=marker, linewidths=0, alpha=0.8)


def _density(figure: Figure, axes: Axes, points: NDArray[np.float64], place: NDArray[np.intp], classes: int) -> None:
    """Draws counts per cell on a logarithmic scale, in the mean color of the classes in the cell."""
    low, high = points.min(axis=0), points.max(axis=0)
    high = np.where(high > low, high, low + 1)
    cell = ((points - low) / (high - low) * CELLS).astype(int).clip(0, CELLS - 1)
    counts = np.zeros((classes, CELLS, CELLS))
    np.add.at(counts, (place, cell[:, 1], cell[:, 0]), 1)
    total = counts.sum(axis=0)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    if classes == 1:
        shown = axes.imshow(
            np.where(total > 0, total, np.nan),
            extent=extent,
            origin="lower",
            norm=LogNorm(1),
            cmap="viridis_r",
            zorder=1,
        )
        figure.colorbar(shown, ax=axes, label="points per cell", shrink=0.6, format="{x:g}")
        return
    colors = np.array([to_rgb(class_look(number)[0]) for number in range(classes)])
    mixed = np.einsum("kyx,kc->yxc", counts, colors) / np.maximum(total, 1)[..., None]
    strength = np.where(total > 0, 0.25 + 0.75 * np.log1p(total) / np.log1p(total.max()), 0)
    tinted = np.concatenate([mixed, strength[..., None]], axis=-1)
    axes.imshow(tinted, extent=extent, origin="lower", interpolation="nearest", zorder=1)


def _is_apart(points: NDArray[np.float64], own: NDArray[np.bool_], median: NDArray[np.float64]) -> bool:
    """Whether most of the points nearest to the median of a class belong to it."""
    around = max(1, int(own.sum()) // 2)
    nearest = np.argpartition(np.square(points - median).sum(1), around - 1)[:around]
    return bool(own[nearest].mean() >= APART)


def _place(figure: Figure, axes: Axes, texts: Sequence[Text]) -> None:
    """Moves names inside the axes, and hides those that would overlap others."""
    figure.draw_without_rendering()
    limit = axes.get_window_extent()
    shown: list[Bbox] = []
    for text in texts:
        box = text.get_window_extent()
        x = float(np.clip((box.x0 + box.x1) / 2, limit.x0 + box.width / 2, limit.x1 - box.width / 2))
        y = float(np.clip((box.y0 + box.y1) / 2, limit.y0 + box.height / 2, limit.y1 - box.height / 2))
        moved = Bbox.from_bounds(x - box.width / 2, y - box.height / 2, box.width, box.height)
        is_free = not any(moved.overlaps(other) for other in shown)
        text.set_visible(is_free)
        text.set_position(tuple(axes.transData.inverted().transform((x, y)).tolist()))
        if is_free:
            shown.append(moved)


def scatter(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    names: Mapping[int, str] | None = None,
    x_label: str,
    y_label: str,
    title: str | None = None,
) -> Figure:
    """A scatter plot; above 20,000 points their density. Separated classes are labeled at their medians.

    Args:
        points: (point, 2).
        labels: (point,) numbers or strings, at most 30 different ones.
        names: name of each label; by default the label itself.
        x_label: label of the first coordinate, such as `latent 1`.
        y_label: label of the second coordinate.
        title: title.

    Raises:
        ShapeError: points are not (point, 2), or a wrong number of labels.
        DataError: no points, non-finite coordinates, or too many classes.
    """
    found, place, classes = _checked(points, labels)
    called = [legend_text((names or {}).get(label, str(label))) for label in classes]  # type: ignore[call-overload]
    with styled():
        low, high = found.min(axis=0), found.max(axis=0)
        reach = 0.53 * np.maximum(high - low, 1e-12)
        # Both axes have the same scale; the aspect ratio follows the points.
        reach = np.where(reach > 1e-9, reach, reach.max() if reach.max() > 1e-9 else 1)
        reach = np.maximum(reach, FLATTEST * reach.max())
        width, height = 5.2 * reach / reach.max()
        columns = -(-len(called) // LISTED)
        legend = columns * (0.6 + 0.09 * max(map(len, called), default=0)) if called else 1.2
        figure, (axes,) = panelled(1, columns=1, size=(0.9 + float(width) + legend, 0.8 + float(height)), title=title)
        axes.set(xlabel=x_label, ylabel=y_label)
        crowded = len(found) > CROWD
        if crowded:
            _density(figure, axes, found, place, max(len(classes), 1))
        else:
            _dots(axes, found, place, max(len(classes), 1))
        (x, y), (across, up) = (low + high) / 2, reach
        axes.set(xlim=(x - across, x + across), ylim=(y - up, y + up), aspect="equal")
        halo = [withStroke(linewidth=3, foreground=PAPER)]
        texts = []
        for number in np.bincount(place, minlength=len(called)).argsort(kind="stable")[::-1] if called else ():
            median = np.median(found[place == number], axis=0)
            if _is_apart(found, place == number, median):
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold"}
                texts.append(axes.text(float(median[0]), float(median[1]), called[number], path_effects=halo, **style))
        if called:
            looks = [(color, "s" if crowded else marker) for color, marker in map(class_look, range(len(called)))]
            handles = [
                Line2D([], [], linestyle="", color=color, marker=marker, markersize=7, label=name)
                for (color, marker), name in zip(looks, called, strict=True)
            ]
            figure.legend(handles=handles, loc="outside right center", ncols=columns)
            _place(figure, axes, texts)
    return figure
