"""Overlaid histograms of several sets of values, such as scores of in-distribution and other images."""

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
        sets: values of any shape by label.
        x_label: label of the values, with their unit, such as `negative ELBO (nats per image)`.
        title: title.
        bins: number of bins.

    Raises:
        DataError: no sets, an empty set, or non-finite values.
    """
    found = {label: array(values).astype(np.float64).ravel() for label, values in sets.items()}
    for label, values in found.items():
        if not len(values) or not np.isfinite(values).all():
            raise DataError(f"histograms: expected at least one value in '{label}', all finite")
    if not found:
        raise DataError("histograms: expected at least one set of values")
    edges = np.histogram_bin_edges(np.concatenate(list(found.values())), bins=bins)
    with styled():
        figure, (axes,) = panelled(1, columns=1, size=(7.2, 4.2), title=title)
        axes.set(xlabel=x_label, ylabel="fraction of the set per bin")
        for place, (label, values) in enumerate(found.items()):
            fractions = np.histogram(values, edges)[0] / len(values)
            color = PALETTE[place % len(PALETTE)]
            name = f"{legend_text(label)} (n = {len(values):,})"
            axes.stairs(fractions, edges, fill=True, color=color, alpha=0.35)
            axes.stairs(fractions, edges, color=color, linewidth=1.6, label=name)
        axes.set_ylim(bottom=0)
        legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure
