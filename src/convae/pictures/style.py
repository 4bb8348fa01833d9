"""Common style of all pictures: colors, sizes and the font.

The palette is that of Okabe and Ito ("Color Universal Design", 2008) without its yellow, which is too pale on white,
and with indigo, wine and sand from Paul Tol's "muted" scheme. Under simulated red-green color deficiency (Machado et
al. 2009), all ten are as distinguishable as the first six.
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
"""Color of grid lines."""
FRAME = "#9c9c9c"
"""Color of the frame of each image."""

BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, "#332288", "#882255", "#ddcc77", "#000000")
"""Colors in order of use."""

LONGEST = 40
"""Number of characters above which words of titles, and names in legends, are shortened."""
_LONG_WORD = re.compile(rf"\S{{{LONGEST + 1},}}")
TITLE, TEXT, SMALL = 20, 15, 13
"""Font sizes of a sheet, in pixels."""


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which is part of matplotlib; `size` in pixels."""
    import matplotlib as mpl

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def label_text(text: str) -> str:
    """A name as text in a picture: control characters are escaped, long words shortened in the middle."""
    return _LONG_WORD.sub(lambda word: shortened(word[0]), escape_controls(text.replace("\t", " ")))


def shortened(text: str) -> str:
    """Text of at most `LONGEST` characters, without the middle of a longer one."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 12]}…{text[-11:]}"


def paler(color: str) -> str:
    """A paler color: one third of it, two thirds white."""
    return "#" + "".join(f"{(value + 2 * 255) // 3:02x}" for value in ImageColor.getrgb(color)[:3])
