"""Strided convolutions that presets share; kernels of twice the stride cover all pixels equally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convae.core.sizes import output_padding


def downsampling(channels: int, stride: Sequence[int]) -> dict[str, Any]:
    """A convolution that divides the sizes by its stride."""
    return {"conv": _strided(channels, stride)}


def upsampling(channels: int, small: Sequence[int], large: Sequence[int], stride: Sequence[int]) -> dict[str, Any]:
    """A transposed convolution from sizes to larger ones."""
    return {"conv-transpose": {**_strided(channels, stride), "output_padding": output_padding(small, large, stride)}}


def _strided(channels: int, stride: Sequence[int]) -> dict[str, Any]:
    return {"channels": channels, "kernel": [2 * step for step in stride], "stride": list(stride)}
