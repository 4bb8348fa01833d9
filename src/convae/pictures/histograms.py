"""Distributions of a figure in two or more sets, one over the other, such as the score of known and foreign images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from convae.core.errors import DataError
from convae.pictures.figure import legend_below, legend_text, panelled, styled
from convae.pictures.images import array
from convae.pictures.style import PALETTE

__all__ = ["histograms"]


def histograms(sets: Mapping[str, ArrayLike], *, x_label: str, title: str | None = None, bins: int = 50) -> Figure:
    """Histograms of several sets as fractions, with common bins.

    Args:
        sets: label to values of any shape.
        x_label: what the values are, with their unit, such as `negative ELBO (nats per image)`.
        title: text above everything.
        bins: how many.

    Raises:
        DataError: no sets, an empty one, or values that are not finite.
    """
    found = {label: array(values).astype(np.float64).ravel() for label, values in sets.items()}
    for label, values in found.items():
        if not len(values) or not np.isfinite(values).all():
            raise DataError(
                f"a histogram needs at least one value and only finite ones, and the set '{label}' has others"
            )
    if not found:
        raise DataError("a histogram needs at least one set of values")
    edges = np.histogram_bin_edges(np.concatenate(list(found.values())), bins=bins)
    with styled():
        figure, (axes,) = panelled(1, columns=1, size=(7.2, 4.2), title=title)
        axes.set(xlabel=x_label, ylabel="fraction of the set per bin")
        for place, (label, values) in enumerate(found.items()):
            share = np.histogram(values, edges)[0] / len(values)
            color = PALETTE[place % len(PALETTE)]
            axes.stairs(share, edges, fill=True, color=color, alpha=0.35)
            axes.stairs(share, edges, color=color, linewidth=1.6, label=f"{legend_text(label)} (n = {len(values):,})")
        axes.set_ylim(bottom=0)
        legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure
