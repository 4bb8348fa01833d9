"""Layout of sheets: rows of cells with labels, for grids, comparisons and strips.

Cells are not resized. All columns are as wide as the widest cell or word of a label.

        title
        ▬ key
                 column   column
        label    ┌────┐   ┌────┐
                 └────┘   └────┘
                 caption  caption
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convae.pictures.style import FRAME, INK, PAPER, SMALL, TEXT, TITLE, font, label_text

MARGIN = 16
"""Margin in pixels."""
GAP = 6
"""Gap between cells in pixels."""
BLOCK = 20
"""Gap between blocks of rows in pixels."""
LABEL = 220
"""Largest width of row labels in pixels."""


@dataclass(frozen=True)
class Row:
    """One row of cells.

    Attributes:
        cells: (count, height, width, 3); rows may have different counts.
        label: text on the left.
        captions: text below each cell; may be empty.
        apart: whether a new block begins with this row, as it does with the first.
    """

    cells: NDArray[np.uint8]
    label: str = ""
    captions: Sequence[str] = ()
    apart: bool = False


def text_height(size: int) -> int:
    """Line height in pixels."""
    return sum(font(size).getmetrics())


def text_width(lines: Sequence[str], size: int) -> int:
    """Width of the longest line in pixels."""
    return max((int(np.ceil(font(size).getlength(line))) for line in lines), default=0)


def broken(text: str, size: int, width: int) -> list[str]:
    """Wraps text to a width in pixels between words; a wider word is a line of its own."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_width([longer], size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _widest_word(texts: Sequence[str], size: int) -> int:
    return text_width([word for text in texts for word in text.split()], size)


class _Page:
    """The elements of a sheet with their positions, collected before its height is known."""

    def __init__(self) -> None:
        self.texts: list[tuple[int, int, str, str, int]] = []
        self.cells: list[tuple[int, int, NDArray[np.uint8]]] = []
        self.boxes: list[tuple[tuple[int, int, int, int], str]] = []

    def write(self, x: int, y: int, lines: Sequence[str], size: int, anchor: str) -> int:
        """Adds lines of text from `y` downwards, and returns their height; `anchor` is `l`, `m` or `r`."""
        height = text_height(size)
        for number, line in enumerate(lines):
            self.texts.append((x, y + number * height, line, anchor + "a", size))
        return height * len(lines)

    def write_key(self, y: int, key: Sequence[tuple[str, str]]) -> int:
        """Adds the key of colors, and returns its height."""
        x = MARGIN
        for color, text in key:
            middle = y + text_height(SMALL) // 2
            self.boxes.append(((x, middle - 2, x + 20, middle + 1), color))
            self.write(x + 26, y, [text], SMALL, "l")
            x += text_width([text], SMALL) + 48
        return text_height(SMALL) + 2 * GAP if key else 0

    def write_heads(self, left: int, y: int, pitch: int, labels: Sequence[str]) -> int:
        """Adds column labels, aligned at the bottom, and returns their height."""
        if not labels:
            return 0
        heads = [broken(text, TEXT, pitch - GAP) for text in labels]
        tallest = max(len(lines) for lines in heads)
        for column, lines in enumerate(heads):
            lower = y + (tallest - len(lines)) * text_height(TEXT)
            self.write(left + column * pitch + (pitch - GAP) // 2, lower, lines, TEXT, "m")
        return tallest * text_height(TEXT) + GAP

    def drawn(self, width: int, height: int) -> Image.Image:
        page = Image.new("RGB", (width, height), PAPER)
        pen = ImageDraw.Draw(page)
        for box, color in self.boxes:
            pen.rectangle(box, fill=color)
        for x, y, line, anchor, size in self.texts:
            pen.text((x, y), line, font=font(size), fill=INK, anchor=anchor)
        for x, y, cell in self.cells:
            height, width = cell.shape[:2]
            pen.rectangle((x - 1, y - 1, x + width, y + height), outline=FRAME)
            page.paste(Image.fromarray(cell), (x, y))
        return page


def sheet(
    rows: Sequence[Row],
    *,
    column_labels: Sequence[str] = (),
    title: str | None = None,
    key: Sequence[tuple[str, str]] = (),
) -> Image.Image:
    """Draws a sheet of rows of cells.

    Args:
        rows: at least one; all cells have the same size.
        column_labels: text above each column; may be empty.
        title: title.
        key: pairs of color and text, shown below the title.
    """
    rows = [replace(row, label=label_text(row.label), captions=[*map(label_text, row.captions)]) for row in rows]
    column_labels = [*map(label_text, column_labels)]
    title = title and label_text(title)
    columns = max(len(row.cells) for row in rows)
    height, width = rows[0].cells.shape[1:3]
    captions = [text for row in rows for text in row.captions]
    pitch = max(width, _widest_word(captions, SMALL), _widest_word(column_labels, TEXT)) + GAP
    labels = [broken(row.label, TEXT, LABEL) for row in rows]
    indent = max(text_width(label, TEXT) for label in labels)
    tall = max([height, *(len(label) * text_height(TEXT) for label in labels)])
    left = MARGIN + (indent + 2 * GAP if indent else 0)
    page_width = max(
        left + columns * pitch - GAP + MARGIN,
        2 * MARGIN + _widest_word([title or ""], TITLE),
        2 * MARGIN + sum(text_width([text], SMALL) + 48 for _, text in key),
    )

    page = _Page()
    y = MARGIN
    if title:
        y += page.write(MARGIN, y, broken(title, TITLE, page_width - 2 * MARGIN), TITLE, "l") + 2 * GAP
    y += page.write_key(y, key)
    y += page.write_heads(left, y, pitch, column_labels)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if number:
            y += BLOCK if row.apart else GAP
        page.write(left - 2 * GAP, y + (tall - len(label) * text_height(TEXT)) // 2, label, TEXT, "r")
        lower = y + (tall + height) // 2 + GAP // 2
        below = 0
        for column, cell in enumerate(row.cells):
            x = left + column * pitch
            page.cells.append((x + (pitch - GAP - width) // 2, y + (tall - height) // 2, cell))
            if row.captions:
                lines = broken(row.captions[column], SMALL, pitch - GAP)
                below = max(below, page.write(x + (pitch - GAP) // 2, lower, lines, SMALL, "m") + GAP)
        y += tall + below
    return page.drawn(page_width, y + MARGIN)
