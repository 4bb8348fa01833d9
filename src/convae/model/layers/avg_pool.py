"""Mean pooling."""

from __future__ import annotations

from typing import ClassVar

from torch.nn import functional as F

from convae.model.layers._pool import Pool


class AvgPool(Pool):
    """Average pooling: the mean of each window.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        kernel: size of the window, one number or one per axis.
        stride: stride, one number or one per axis; None for the kernel size.
    """

    over: ClassVar = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
