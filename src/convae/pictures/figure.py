"""matplotlib figures in the common style, without pyplot and without changing matplotlib's settings.

Importing this module imports matplotlib, which sheets of images do not need.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convae.pictures.style import FAINT, INK, PALETTE, PAPER, label_text, shortened

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "figure.titlesize": 13,
    "figure.facecolor": PAPER,
    "text.parse_math": False,  # names may contain dollar signs
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "savefig.dpi": 150,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "convae",  # deterministic identifiers: equal figures give equal bytes
}

_turn = threading.RLock()


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Applies the style inside the block, and restores the user's matplotlib settings afterwards.

    The settings are global, so only one thread draws at a time.
    """
    with _turn, mpl.rc_context(), warnings.catch_warnings():
        # Characters missing from the font are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def panelled(count: int, *, columns: int, size: tuple[float, float], title: str | None) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in reading order, each of a size in inches; call it within `styled`."""
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]))
    if title:
        lines = textwrap.wrap(label_text(title), int(11 * figure.get_figwidth()))
        figure.suptitle("\n".join(lines), x=0.01, ha="left")
        heighten(figure, 0.1 + 0.2 * len(lines))
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for panel in panels:
        # A fixed number of ticks, so that the layout does not change their width.
        panel.locator_params(nbins=6)
    return figure, panels


def heighten(figure: Figure, inches: float) -> None:
    """Increases the height of a figure, to make room for titles and labels."""
    figure.set_figheight(figure.get_figheight() + inches)


def legend_text(text: str) -> str:
    """A name as legend text on one line, shortened in the middle.

    A leading underscore, which would hide it, is preceded by a space.
    """
    return re.sub("^_", " _", shortened(label_text(text.replace("\n", "\\n"))))


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """Adds a legend below the panels, with as many columns as fit."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(int(figure.get_figwidth() / (0.6 + 0.09 * longest)), len(handles)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    heighten(figure, 0.15 + 0.2 * -(-len(handles) // columns))
