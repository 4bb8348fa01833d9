"""matplotlib figures in the one look, without pyplot and without leaving a trace in its settings.

Importing this module imports matplotlib; pictures made of pixels do not need it.
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

from convae.pictures.style import FAINT, INK, PALETTE, PAPER, label_text

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "figure.titlesize": 13,
    "figure.facecolor": PAPER,
    "text.parse_math": False,  # names that people chose may hold dollars
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
    "svg.hashsalt": "convae",  # identifiers from the content alone: equal figures give equal bytes
}

_turn = threading.RLock()


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The look, whatever the user's own matplotlib settings are, which come back afterwards.

    The settings belong to the process, so that one thread at a time may draw.
    """
    with _turn, mpl.rc_context(), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def panelled(count: int, *, columns: int, size: tuple[float, float], title: str | None) -> tuple[Figure, list[Axes]]:
    """A figure with a number of panels in reading order, each of a size in inches; call it within `styled`."""
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]))
    if title:
        lines = textwrap.wrap(label_text(title), int(11 * figure.get_figwidth()))
        figure.suptitle("\n".join(lines), x=0.01, ha="left")
        heighten(figure, 0.1 + 0.2 * len(lines))
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for panel in panels:
        # A number of ticks that does not hang on the panel's size: their width would change once the layout is done.
        panel.locator_params(nbins=6)
    return figure, panels


def heighten(figure: Figure, inches: float) -> None:
    """Enlarges a figure, so that titles and labels around the panels do not shrink them."""
    figure.set_figheight(figure.get_figheight() + inches)


def legend_text(text: str) -> str:
    """A foreign name on one line of a legend, which leaves out what begins with an underscore."""
    return re.sub("^_", " _", label_text(text.replace("\n", "\\n")))


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend outside the panels, in as many columns as the figure is wide."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(int(figure.get_figwidth() / (0.6 + 0.09 * longest)), len(handles)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    heighten(figure, 0.15 + 0.2 * -(-len(handles) // columns))
