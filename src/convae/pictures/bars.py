"""Bar charts of ranked values, such as the KL divergence per latent dimension."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from convae.core.errors import DataError
from convae.pictures.figure import panelled, styled
from convae.pictures.images import array
from convae.pictures.style import BLUE

__all__ = ["bars"]

MANY = 64
"""Number of bars above which they are drawn without gaps."""


def bars(values: ArrayLike, *, x_label: str, y_label: str, title: str | None = None) -> Figure:
    """Values as bars, from the largest to the smallest, by rank.

    Args:
        values: (value,).
        x_label: label of the ranks.
        y_label: label of the values, with their unit.
        title: title.

    Raises:
        DataError: no values, or non-finite ones.
    """
    found = np.sort(array(values).astype(np.float64).ravel())[::-1]
    if not len(found) or not np.isfinite(found).all():
        raise DataError("bars: expected at least one value, all finite")
    with styled():
        figure, (axes,) = panelled(1, columns=1, size=(7.2, 3.6), title=title)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.bar(np.arange(len(found)) + 1, found, width=0.8 if len(found) <= MANY else 1.0, color=BLUE)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, len(found) + 0.5)
        axes.grid(visible=False, axis="x")
    return figure
