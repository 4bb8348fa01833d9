"""The one look of every picture: colors, sizes and the font.

The palette is that of Okabe and Ito ("Color Universal Design", 2008) without its yellow, which is too pale on white,
and with indigo, wine and sand from Paul Tol's "muted" scheme. The ten stay as far apart under simulated red and green
deficiency (Machado and others, 2009) as the first six alone.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from PIL import ImageColor, ImageFont

from convae.core.names import escape_controls

PAPER = "#ffffff"
INK = "#1a1a1a"
FAINT = "#c8c8c8"
"""Guide lines."""
FRAME = "#9c9c9c"
"""Around each image, so that a white one does not melt into the paper."""

BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, "#332288", "#882255", "#ddcc77", "#000000")
"""Ten colors, in the order in which they are handed out."""

_LONG_WORD = re.compile(r"\S{41,}")
"""A word that is too long for a title, and is shortened."""
TITLE, TEXT, SMALL = 20, 15, 13
"""Heights of type on a sheet, in pixels."""


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the Greek letters and signs of the field; `size` in pixels."""
    import matplotlib as mpl

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def label_text(text: str) -> str:
    """A foreign name as a picture writes it: what cannot be drawn as an escape, long words without their middle."""
    return _LONG_WORD.sub(lambda word: f"{word[0][:28]}…{word[0][-11:]}", escape_controls(text.replace("\t", " ")))


def paler(color: str) -> str:
    """A color mixed with twice as much paper."""
    return "#" + "".join(f"{(value + 2 * 255) // 3:02x}" for value in ImageColor.getrgb(color)[:3])
