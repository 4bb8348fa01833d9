"""The one look of every picture: colours, sizes and the font.

The palette is Okabe and Ito's ("Color Universal Design", 2008), which readers with any of the common colour
deficiencies can tell apart; black is kept for text, and three darker or greyer tones reach ten classes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageColor, ImageFont

PAPER = "#ffffff"
INK = "#1a1a1a"
FAINT = "#c8c8c8"
"""Frames, guide lines, the boundaries of stages."""

BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, "#5d3a9b", "#f0e442", "#6b2a1a", "#8c8c8c")
"""Ten colours, in the order in which they are handed out."""

TITLE, TEXT, SMALL = 20, 15, 13
"""Heights of type on a sheet, in pixels."""


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the Greek letters and signs of the field; `size` in pixels."""
    import matplotlib as mpl

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def paler(colour: str) -> str:
    """A colour mixed with twice as much paper."""
    return "#" + "".join(f"{(value + 2 * 255) // 3:02x}" for value in ImageColor.getrgb(colour)[:3])
