"""Sheets of images: grids, rows for comparison, originals with reconstructions.

Small images are enlarged by an integer factor without interpolation. Any number of channels; volumes are shown as
slices and signals as line plots (see `images`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from convae.core.errors import DataError, ShapeError
from convae.core.names import count_text, shape_text
from convae.pictures.images import checked, to_uint8
from convae.pictures.sheet import GAP, Row, sheet
from convae.pictures.signals import panels
from convae.pictures.style import BLUE, paler

__all__ = ["compare", "grid", "pairs"]

WIDTH = 950
"""Approximate width of a sheet in pixels, to which small images are enlarged by an integer factor."""
CELL = 256
"""Largest size of an enlarged image, in pixels."""
WIDEST = 4096
"""Width of a sheet in pixels above which images are reduced."""


def _sized(cells: NDArray[np.uint8], columns: int, scale: int | None) -> NDArray[np.uint8]:
    """Cells enlarged by `scale`, or by the integer factor that fills the sheet; very large ones are reduced."""
    height, width = cells.shape[1:3]
    if scale is None:
        scale = max(1, min(round(WIDTH / (columns * width)), CELL // max(height, width)))
        smaller = math.ceil(columns * width / WIDEST)
        if smaller > 1:
            return np.stack([np.asarray(Image.fromarray(cell).reduce(smaller)) for cell in cells])
    if scale < 1:
        raise DataError(f"scale must be at least 1, got {scale}")
    return cells.repeat(scale, axis=1).repeat(scale, axis=2)


def _panel(columns: int) -> tuple[int, int]:
    """Width and height of the line plot of a signal."""
    width = min(max(WIDTH // columns - GAP, 160), 480)
    return width, width // 2


def _fitting(images: NDArray[np.float64]) -> int:
    """Number of images side by side within the width of a screen."""
    return max(2, (WIDTH + CELL) // (160 if images.ndim == 3 else images.shape[-1]))


def _square(count: int, most: int) -> int:
    """Number of columns of a grid with an aspect ratio of 1 to 2 and the fewest empty cells."""
    least = min(math.ceil(math.sqrt(count)), most)
    return min(range(least, min(2 * least, most) + 1), key=lambda columns: (-count % columns, columns))


def _at_least_one(columns: int) -> int:
    if columns < 1:
        raise DataError(f"columns must be at least 1, got {columns}")
    return columns


def _same_count(texts: Sequence[str] | None, count: int, what: str) -> Sequence[str]:
    if texts is not None and len(texts) != count:
        raise DataError(f"expected {count_text(count, 'label')}, one for each of the {what}, got {len(texts)}")
    return [str(text) for text in texts or ()]


def _matching(rows: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """Validates that rows have equal numbers and sizes of images."""
    found = {label: checked(images) for label, images in rows.items()}
    if not found:
        raise DataError("compare: expected at least one row of images")
    start, first = next(iter(found.items()))
    for label, values in found.items():
        if len(values) != len(first) or values.shape[2:] != first.shape[2:]:
            raise ShapeError(
                f"row '{label}': images are {shape_text(values.shape)}, but those of row '{start}' "
                f"{shape_text(first.shape)}"
            )
        if values.ndim == 3 and values.shape != first.shape:
            raise ShapeError(f"row '{label}': expected {count_text(first.shape[1], 'channel')}, got {values.shape[1]}")
    return found


def grid(
    images: ArrayLike,
    *,
    columns: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    row_lengths: Sequence[int] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> Image.Image:
    """A grid of images in reading order.

    Args:
        images: (batch, channel, *sizes), floats in [0, 1] or uint8.
        columns: number of columns; by default from the labels, or about square.
        row_labels: text for each row.
        column_labels: text for each column.
        captions: text below each image.
        row_lengths: number of images in each row, in place of `columns`.
        title: title.
        scale: integer factor of enlargement; by default the one that fills a screen.

    Raises:
        ShapeError: not a batch of signals, images or volumes.
        DataError: no images, values out of range, or a wrong number of labels or of images in the rows.
    """
    values = checked(images)
    count = len(values)
    if row_lengths is not None:
        if min(row_lengths, default=0) < 1 or sum(row_lengths) != count:
            raise DataError(f"row_lengths: expected positive numbers with the sum {count}, got {[*row_lengths]}")
        columns = max(row_lengths)
    elif columns is None:
        if column_labels is not None:
            columns = len(column_labels)
        elif row_labels is not None:
            columns = math.ceil(count / max(len(row_labels), 1))
        else:
            columns = _square(count, _fitting(values))
    columns = _at_least_one(columns)
    columns = min(columns, count) if column_labels is None else columns
    ends = [*accumulate(row_lengths)] if row_lengths else [*range(columns, count, columns), count]
    heads = _same_count(column_labels, columns, "columns")
    names = _same_count(row_labels, len(ends), "rows")
    notes = _same_count(captions, count, "images")
    cells = panels(values, size=_panel(columns)) if values.ndim == 3 else _sized(to_uint8(values), columns, scale)
    rows = [
        Row(cells[start:end], names[number] if names else "", notes[start:end])
        for number, (start, end) in enumerate(pairwise([0, *ends]))
    ]
    return sheet(rows, column_labels=heads, title=title)


def compare(
    rows: Mapping[str, ArrayLike],
    *,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Labeled rows of images for comparison by column, in several blocks if they do not fit side by side.

    For signals, the first row is drawn under each of the others, broader and paler.

    Args:
        rows: images by label, (batch, channel, *sizes), floats in [0, 1] or uint8; channels may differ.
        columns: number of columns; by default as many as fit.
        captions: text below each column of a block.
        title: title.
        scale: integer factor of enlargement; by default the one that fills a screen.

    Raises:
        ShapeError: not batches of signals, images or volumes, or different numbers or sizes.
        DataError: no rows or images, values out of range, or a wrong number of captions.
    """
    found = _matching(rows)
    first, *others = found
    count, signals = len(found[first]), found[first].ndim == 3
    notes = _same_count(captions, count, "images")
    if columns is None:
        columns = min(_fitting(found[first]), 10)
    columns = math.ceil(count / math.ceil(count / _at_least_one(columns)))
    if signals:
        size = _panel(columns)
        shown = {label: panels(found[label], size=size, under=found[first]) for label in others}
        shown = shown or {first: panels(found[first], size=size)}
    else:
        shown = {label: _sized(to_uint8(values), columns, scale) for label, values in found.items()}
    top, bottom = next(iter(shown)), next(reversed(shown))
    return sheet(
        [
            Row(
                cells[start : start + columns],
                label if len(shown) > 1 else "",
                notes[start : start + columns] if label == bottom else (),
                apart=label == top,
            )
            for start in range(0, count, columns)
            for label, cells in shown.items()
        ],
        title=title,
        key=[(paler(BLUE), first), (BLUE, " / ".join(others))] if signals and others else [],
    )


def pairs(
    originals: ArrayLike,
    reconstructions: ArrayLike,
    *,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Originals above their reconstructions; see `compare`."""
    rows = {"original": originals, "reconstruction": reconstructions}
    return compare(rows, columns=columns, captions=captions, title=title, scale=scale)
