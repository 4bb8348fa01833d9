"""Structure diagrams: encoder down on the left, bottleneck below, decoder up on the right, classifier last."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from convae.core.description import LayerKind
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.pictures.figure import styled
from convae.pictures.style import BLUE, FRAME, GREEN, INK, ORANGE, PURPLE, label_text, paler

__all__ = ["DrawnLayer", "draw_structure"]

ROW = 0.27
"""Height of a layer, in inches."""
NAME, BAR, NUMBERS = 2.7, 1.5, 2.35
"""Widths of the parts of a column in inches: layer name, bar of the output size, numbers."""
COLUMN = NAME + BAR + NUMBERS
GAP, MARGIN, TITLE = 0.35, 0.15, 0.75
PARTS = ("condition", "encoder", "bottleneck", "decoder", "likelihood", "classifier")
LETTERS = 43
"""Largest number of letters of a name."""
CAPTION: dict[str, Any] = {"ha": "center", "fontsize": 9, "style": "italic"}
NUMBERS_ARE = "beside each layer: output (channels × sizes)  ·  parameters  ·  receptive field"
KINDS: dict[LayerKind, tuple[str, str]] = {
    "resizing": ("changes sizes, with weights", BLUE),
    "size-keeping": ("keeps sizes, with weights", GREEN),
    "parameter-free": ("without weights", FRAME),
    "vector": ("vector", ORANGE),
    "latent": ("latent", PURPLE),
}
"""Text in the legend and color of each kind."""


@runtime_checkable
class DrawnLayer(Protocol):
    """A layer of the diagram."""

    @property
    def part(self) -> str:
        """One of `PARTS`; a condition has two entries, for image and latent."""

    @property
    def label(self) -> str:
        """Name and main arguments."""

    @property
    def kind(self) -> LayerKind:
        """Kind of the layer, which determines its color."""

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of the output."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""

    @property
    def receptive_field(self) -> tuple[float, ...]:
        """Receptive field along each axis, in pixels; empty if undefined."""


@dataclass(frozen=True)
class _Line:
    """Consecutive equal layers."""

    layer: DrawnLayer
    times: int

    @property
    def text(self) -> str:
        """Text such as `3 × conv stride 2`, shortened."""
        text = f"{self.times} × {self.layer.label}" if self.times > 1 else self.layer.label
        return textwrap.shorten(text, LETTERS, placeholder=" …")

    @property
    def numbers(self) -> str:
        """Shape, parameters and receptive field."""
        parts = [shape_text(self.layer.shape)]
        if self.layer.parameters:
            parts.append(_short(self.times * self.layer.parameters))
        if self.layer.receptive_field:
            sees_all = any(map(math.isinf, self.layer.receptive_field))
            sizes = dict.fromkeys(f"{size:g}" for size in self.layer.receptive_field)
            parts.append("sees all" if sees_all else f"sees {'×'.join(sizes)}")
        return "  ·  ".join(parts)


def draw_structure(layers: Sequence[DrawnLayer], *, input_shape: Shape, title: str) -> Figure:
    """Draws one line for each layer, or for several consecutive equal ones.

    The width of a bar is the logarithm of the largest output size.

    Args:
        layers: of condition, encoder, bottleneck, decoder, likelihood and classifier, in the order of the forward pass.
        input_shape: (channels, *sizes) of an image.
        title: title.
    """
    lines = _group_equal(layers)
    parts = {part: [line for line in lines if line.layer.part == part] for part in PARTS}
    into = parts["condition"]
    down, up = [*into[:1], *parts["encoder"]], [*into[1:], *parts["decoder"], *parts["likelihood"]]
    classifier = parts["classifier"]
    longest = max(len(down), len(up)) + 1
    under = (len(classifier) + 1.9) * ROW if classifier else 0
    width, height = 2 * COLUMN + GAP + 2 * MARGIN, TITLE + (longest + 3.2) * ROW + under
    largest = max((size for line in lines for size in line.layer.shape[1:]), default=1)
    with styled():
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        axes.text(MARGIN, height - 0.12, label_text(title), fontsize=13, va="top")
        axes.text(width - MARGIN, height - 0.16, NUMBERS_ARE, fontsize=8, ha="right", va="top")
        _legend(axes, {line.layer.kind for line in lines}, (MARGIN / width, 1 - 0.42 / height))
        floor = 2.2 * ROW + under
        left, right = MARGIN, MARGIN + COLUMN + GAP
        image = shape_text(input_shape)
        for place, line in enumerate(down):
            _line(axes, line, left, floor + (len(down) - place) * ROW, largest)
        for place, line in enumerate(up):
            _line(axes, line, right, floor + (place + 1) * ROW, largest)
        _caption(axes, f"image {image}", left, floor + (len(down) + 1) * ROW)
        _caption(axes, f"likelihood of an image {image}", right, floor + (len(up) + 1) * ROW)
        for line in parts["bottleneck"]:
            _bottleneck(axes, line, left + NAME + BAR / 2, right + NAME + BAR / 2, floor)
        if classifier:
            _classifier(axes, classifier, width / 2, under, largest)
    return figure


def _group_equal(layers: Sequence[DrawnLayer]) -> list[_Line]:
    """Groups consecutive equal layers."""
    groups = itertools.groupby(layers, key=lambda layer: (layer.part, layer.label, layer.shape, layer.parameters))
    # The last layer of a group has the largest receptive field.
    return [_Line(equal[-1], len(equal)) for equal in (list(group) for _, group in groups)]


def _line(axes: Axes, line: _Line, x: float, y: float, largest: int) -> None:
    """Draws a layer: name, bar, numbers."""
    side = max(line.layer.shape[1:], default=1)
    fraction = 0.12 + 0.88 * (math.log(side) / math.log(largest) if largest > 1 else 1)
    _, color = KINDS[line.layer.kind]
    axes.text(x + NAME - 0.1, y + ROW / 2, line.text, ha="right", va="center", fontsize=8.5)
    width = BAR * fraction
    corner = (x + NAME + (BAR - width) / 2, y + 0.03)
    axes.add_patch(
        Rectangle(corner, BAR * fraction, ROW - 0.06, facecolor=paler(color), edgecolor=color, linewidth=0.9)
    )
    axes.text(x + NAME + BAR + 0.1, y + ROW / 2, line.numbers, va="center", fontsize=8)


def _caption(axes: Axes, text: str, x: float, y: float) -> None:
    """Draws the caption of input or output, centered above the bars of a column."""
    axes.text(x + NAME + BAR / 2, y + 0.09, text, va="bottom", **CAPTION)


def _bottleneck(axes: Axes, line: _Line, left: float, right: float, top: float) -> None:
    """Draws the bottleneck below both columns, with arrows."""
    middle, half, y = (left + right) / 2, 1.9, top - 1.85 * ROW
    _, color = KINDS["latent"]
    box = FancyBboxPatch(
        (middle - half, y), 2 * half, 1.5 * ROW, boxstyle="round,pad=0.02", facecolor=paler(color), edgecolor=color
    )
    axes.add_patch(box)
    text = f"{line.layer.label} bottleneck: latent {shape_text(line.layer.shape)}"
    if line.layer.parameters:
        text += f"  ·  {_short(line.layer.parameters)}"
    axes.text(middle, y + 0.75 * ROW, text, ha="center", va="center", fontsize=9)
    center = y + 0.75 * ROW
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.plot([left, left], [top + ROW, center], color=INK, linewidth=0.9)
    axes.annotate("", (middle - half, center), (left, center), arrowprops=arrow)
    axes.plot([middle + half, right], [center, center], color=INK, linewidth=0.9)
    axes.annotate("", (right, top + ROW), (right, center), arrowprops=arrow)


def _classifier(axes: Axes, lines: Sequence[_Line], middle: float, top: float, largest: int) -> None:
    """Draws the classifier below the bottleneck."""
    first = top - 0.7 * ROW
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (middle, first), (middle, top + 0.35 * ROW), arrowprops=arrow)
    x = middle - NAME - BAR / 2
    for place, line in enumerate(lines):
        _line(axes, line, x, first - (place + 1) * ROW, largest)
    classes = shape_text(lines[-1].layer.shape)
    axes.text(middle, first - (len(lines) + 0.1) * ROW, f"class, one of {classes}", va="top", **CAPTION)


def _legend(axes: Axes, kinds: Collection[LayerKind], corner: tuple[float, float]) -> None:
    """Draws the legend of the kinds in one line; the corner is in figure fractions."""
    entries = [entry for kind, entry in KINDS.items() if kind in kinds]
    boxes = [Rectangle((0, 0), 1, 1, facecolor=paler(color), edgecolor=color) for _, color in entries]
    axes.legend(
        boxes,
        [text for text, _ in entries],
        loc="upper left",
        bbox_to_anchor=corner,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.5,
        fontsize=8,
        frameon=False,
        handlelength=1.5,
        ncols=len(entries),
    )


def _short(count: int) -> str:
    """A count with three digits, such as `1.23 M`."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {letter}"
    return str(count)
