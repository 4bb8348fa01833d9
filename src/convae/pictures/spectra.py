"""Power spectra on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike

from convae.core.errors import DataError
from convae.pictures.figure import legend_below, legend_text, panelled, styled
from convae.pictures.images import array
from convae.pictures.style import INK, PALETTE

__all__ = ["spectra"]


def spectra(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]], *, x_label: str, y_label: str, title: str | None = None
) -> Figure:
    """Spectra as lines on logarithmic axes; the first one, such as that of images, is black and dashed.

    Args:
        lines: frequency and power by label, (frequency,) each; powers of 0 are gaps.
        x_label: label of the frequencies.
        y_label: label of the powers.
        title: title.

    Raises:
        DataError: no lines, or frequency and power of different lengths.
    """
    if not lines:
        raise DataError("spectra: expected at least one line")
    with styled():
        figure, (axes,) = panelled(1, columns=1, size=(7.2, 4.2), title=title)
        axes.set(xlabel=x_label, ylabel=y_label, xscale="log", yscale="log")
        handles = []
        for number, (label, (x, y)) in enumerate(lines.items()):
            frequency, power = (array(values).astype(np.float64) for values in (x, y))
            if frequency.ndim != 1 or frequency.shape != power.shape:
                raise DataError(f"spectra, line '{label}': frequency and power must have the same length")
            color = PALETTE[(number - 1) % len(PALETTE)] if number else INK
            style: Literal["solid", "dashed"] = "solid" if number else "dashed"
            power = np.where(power > 0, power, np.nan)
            axes.plot(frequency, power, color=color, linestyle=style, marker="o", markersize=3)
            handles.append(Line2D([], [], color=color, linestyle=style, label=legend_text(label)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        legend_below(figure, handles)
    return figure
