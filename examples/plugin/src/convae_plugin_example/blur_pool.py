from torch import Tensor
from torch.nn import functional as F

from convae.model.layers.base import Layer, ReceptiveField, needs_axes
from convae.types import Positive, Shape

POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class BlurPool(Layer):
    """Binomial low-pass filter [1, 2, 1] along each axis, then a stride (Zhang 2019, arXiv:1904.11486)."""

    def __init__(self, shape: Shape, *, stride: Positive = 2) -> None:
        super().__init__(shape)
        self.axes = needs_axes(shape, 1, 2, 3)
        self.stride = stride

    def receptive_field(self) -> ReceptiveField:
        return ReceptiveField((3,) * self.axes, (self.stride,) * self.axes)

    def forward(self, x: Tensor) -> Tensor:
        pool = POOLS[self.axes]
        # Two means of two neighbors in a row are the filter; beyond the edge there is nothing to count.
        return pool(pool(x, 2, 1, 1, count_include_pad=False), 2, self.stride)
