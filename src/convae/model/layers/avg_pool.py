"""Mean pooling."""

from __future__ import annotations

from typing import ClassVar

from torch.nn import functional as F

from convae.model.layers._pool import Pool


class AvgPool(Pool):
    """The mean of each window of positions.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        kernel: size of the window, one number or one for each axis.
        stride: step in positions; None for windows that touch.
    """

    over: ClassVar = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
