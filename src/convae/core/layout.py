"""Memory layout of feature maps."""

from __future__ import annotations

from torch import Tensor


def repeat_rows(x: Tensor, count: int) -> Tensor:
    """Each row of `x`, (row, …), `count` times in succession, in the memory layout of `x`.

    `repeat_interleave` makes contiguous maps of those in channels_last, which convolutions would convert again.
    """
    if x.ndim < 4 or x.is_contiguous():
        return x.repeat_interleave(count, 0)
    return x.movedim(1, -1).repeat_interleave(count, 0).movedim(-1, 1)
