"""Histograms and strip plots of values by class, such as a latent of one dimension."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from convae.core.errors import DataError, ShapeError
from convae.core.names import count_text
from convae.core.random import numpy_generator
from convae.pictures.figure import legend_text, panelled, styled
from convae.pictures.images import array
from convae.pictures.scatter import CLASSES, class_look

__all__ = ["strips"]

BINS = 50
FILLED = 4
"""Largest number of classes with filled histograms."""
MOST = 5_000
"""Largest number of drawn points; histograms count all."""
ROW = 0.22
"""Height of the strip of a class in inches."""


def strips(
    values: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    names: Mapping[int, str] | None = None,
    x_label: str,
    title: str | None = None,
) -> Figure:
    """Histograms of all classes, and below them a strip of points for each class.

    Args:
        values: (point,).
        labels: (point,) numbers or strings, at most 30 different ones.
        names: what to call a label; itself by default.
        x_label: what the values are, such as `latent value 0`.
        title: text above everything.

    Raises:
        ShapeError: a wrong number of labels.
        DataError: no values, non-finite values, or too many classes.
    """
    found = array(values).astype(np.float64).ravel()
    if not len(found) or not np.isfinite(found).all():
        raise DataError("strips: expected at least one value, all finite")
    given = np.zeros(len(found), np.int64) if labels is None else array(labels)
    if given.shape != found.shape:
        raise ShapeError(f"strips: expected {count_text(len(found), 'label')}, one per value, got {given.shape}")
    classes, place = np.unique(given, return_inverse=True)
    if len(classes) > CLASSES:
        raise DataError(f"strips: expected at most {CLASSES} classes, got {len(classes)}")
    called = [legend_text((names or {}).get(label, str(label))) for label in classes.tolist()]
    edges = np.histogram_bin_edges(found, bins=BINS)
    generator = numpy_generator(0, "strips")
    shown = np.sort(generator.permutation(len(found))[:MOST])
    heights = place[shown] + generator.uniform(-0.32, 0.32, len(shown))
    with styled():
        figure, (above, below) = panelled(2, columns=1, size=(7.2, max(2.4, ROW * len(classes))), title=title)
        above.set_ylabel("images per bin")
        for number, name in enumerate(called):
            color, _ = class_look(number)
            own = found[place == number]
            if len(classes) <= FILLED:
                above.stairs(np.histogram(own, edges)[0], edges, fill=True, color=color, alpha=0.2)
            above.stairs(np.histogram(own, edges)[0], edges, color=color, linewidth=1.4, label=name)
            chosen = place[shown] == number
            below.scatter(found[shown][chosen], heights[chosen], s=8, c=color, linewidths=0, alpha=0.6)
        above.set_ylim(bottom=0)
        below.set_xlabel(x_label)
        below.set_ylim(len(classes) - 0.5, -0.5)
        below.grid(visible=False, axis="y")
        below.set_yticks(range(len(classes)), called if labels is not None else [""])
        margin = 0.03 * (edges[-1] - edges[0])
        for axes in (above, below):
            axes.set_xlim(edges[0] - margin, edges[-1] + margin)
        if labels is not None and len(classes) <= 12:
            figure.legend(handles=above.get_legend_handles_labels()[0], loc="outside right center", fontsize=8)
    return figure
