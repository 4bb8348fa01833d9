"""Base class of pooling layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from convae.core.arguments import PerAxis
from convae.core.types import Shape
from convae.model.layers.base import Layer, ReceptiveField, needs_axes, per_axis, window_fits


class Pool(Layer):
    """Pooling over windows; `over` maps the number of axes to torch's function.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        kernel: size of the window, one number or one per axis.
        stride: stride, one number or one per axis; None for the kernel size.
    """

    example: ClassVar = {"kernel": 2}
    over: ClassVar[Mapping[int, Callable[..., Tensor]]]

    def __init__(self, shape: Shape, *, kernel: PerAxis = 2, stride: PerAxis | None = None) -> None:
        super().__init__(shape)
        self.axes = needs_axes(shape, 1, 2, 3)
        self.kernel = per_axis(kernel, shape, "kernel")
        self.stride = self.kernel if stride is None else per_axis(stride, shape, "stride")
        window_fits(self.kernel, self.stride, shape)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channel, *smaller sizes)."""
        return self.over[self.axes](x, self.kernel, self.stride)

    def receptive_field(self) -> ReceptiveField:
        """The window and the stride."""
        return ReceptiveField(tuple(map(float, self.kernel)), tuple(map(float, self.stride)))

    def halo(self) -> tuple[int, int]:
        """The rest of the window."""
        return 0, self.kernel[0] - 1
