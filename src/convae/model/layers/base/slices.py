"""How large images are computed in slices: in slices of rows, with equal results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from convae.core.allocator import return_large_blocks
from convae.core.device import device_memory
from convae.core.types import Shape
from convae.model.layers.base.sliced_pass import SlicedPass

DEFAULT_FRACTION = 4
"""By default, a pass takes the memory of the device divided by this."""
_SLICE_FRACTION = 4
"""The part of the memory of a pass that slices take, if their rows are not given, is one divided by this."""
_MAPS_AT_A_TIME = 8
"""Memory of an image that is computed at once, in maps of the largest size: four of a residual block, two of a
convolution in the layout of oneDNN, and what freed ones leave (2,366 MiB measured for maps of 256)."""
_WORKSPACE = {3: 4}
"""By the number of spatial axes: memory of a convolution besides input and output, in relation to both, on the CPU."""


@dataclass(frozen=True)
class Slices:
    """Division of a pass over a large image.

    Attributes:
        rows: rows of the network's input per slice, or a fraction of one, where its feature maps are largest; where
            they are smaller, a slice has more rows. None for as many as `memory` allows, and no slices for images that
            take less.
        memory: bytes that slices and stored feature maps may take, approximately; None for a quarter of the memory of
            the device.
    """

    rows: float | None = None
    memory: int | None = None

    def begin_pass(self, x: Tensor, shape_in: Shape, shapes: Sequence[Shape]) -> SlicedPass | None:
        """A pass for an input; None where the entire image takes no more memory than allowed.

        Args:
            x: (batch, channel, *sizes), or (batch, feature).
            shape_in: the input shape that a network was built for.
            shapes: the output shapes of its layers.
        """
        memory = self.memory or device_memory(x.device) // DEFAULT_FRACTION
        largest = max(map(math.prod, [shape_in, *shapes])) * x.numel() / math.prod(shape_in) * x.element_size()
        if self.rows is None:
            axes = max(map(len, shapes), default=1) - 1
            workspace = _WORKSPACE.get(axes, 0) if x.device.type == "cpu" else 0
            if (_MAPS_AT_A_TIME + 2 * workspace) * largest <= memory:
                return None
            taken = memory // _SLICE_FRACTION
            in_slice = taken // (1 + workspace)
        else:
            rows = x.shape[2] if x.ndim > 2 else 1
            # A slice of the largest map is computed from one that is as large.
            taken = in_slice = math.ceil(2 * largest * min(1.0, self.rows / rows))
        return_large_blocks()
        return SlicedPass(in_slice, max(0, memory - taken), x.element_size())
