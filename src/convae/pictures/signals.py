"""Line plots of 1-D signals, as images for a sheet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convae.pictures.style import FAINT, PALETTE, PAPER, paler
from convae.pictures.thinning import thinned

__all__ = ["panels"]

FINER = 4
"""Factor of supersampling, for antialiasing."""


def _line(pen: ImageDraw.ImageDraw, values: NDArray[np.float64], box: tuple[int, ...], width: int, ink: str) -> None:
    left, top, right, bottom = box
    chosen = thinned(values, right - left)
    x = left + (right - left) * (chosen / (len(values) - 1) if len(values) > 1 else np.full(1, 0.5))
    y = bottom - (bottom - top) * np.clip(values[chosen], 0, 1)
    points = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    if len(points) > 1:
        pen.line(points, fill=ink, width=width, joint="curve")
    else:
        pen.circle(points[0], 1.5 * width, fill=ink)


def panels(
    signals: NDArray[np.float64], *, size: tuple[int, int] = (240, 120), under: NDArray[np.float64] | None = None
) -> NDArray[np.uint8]:
    """One line plot for each signal, values from 0 (bottom) to 1 (top), one color for each channel.

    Args:
        signals: (batch, channel, length) in [0, 1].
        size: width and height of a panel in pixels.
        under: signals of the same shape to draw below them, broader and paler, such as the originals.

    Returns:
        (batch, height, width, 3).
    """
    width, height = size
    pad = 6
    box = (pad * FINER, pad * FINER, (width - pad) * FINER, (height - pad) * FINER)
    drawn = []
    for index, signal in enumerate(signals):
        panel = Image.new("RGB", (width * FINER, height * FINER), PAPER)
        pen = ImageDraw.Draw(panel)
        for level in (box[1], (box[1] + box[3]) // 2, box[3]):
            pen.line([(box[0], level), (box[2], level)], fill=FAINT, width=FINER)
        if under is not None:
            for channel, values in enumerate(under[index]):
                _line(pen, values, box, 4 * FINER, paler(PALETTE[channel % len(PALETTE)]))
        for channel, values in enumerate(signal):
            _line(pen, values, box, 3 * FINER // 2, PALETTE[channel % len(PALETTE)])
        drawn.append(np.asarray(panel.reduce(FINER)))
    return np.stack(drawn)
