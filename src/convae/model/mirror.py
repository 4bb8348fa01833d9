"""Helpers for presets: decoder output channels of a likelihood, and upsampling to exact sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.types import Shape
from convae.model.likelihoods import LIKELIHOODS


def raw_channels(likelihood: Named, shape: Shape) -> int:
    """Number of decoder output channels that a likelihood needs for images of `shape`."""
    name, given = split_name(likelihood, "likelihood")
    head: Any = LIKELIHOODS.get(name)
    channels: int = head(**parse_arguments(head, given, f"likelihood {name}")).raw_channels(shape[0])
    return channels


def enlarging_layer(small: Sequence[int], large: Sequence[int], scale: int) -> dict[str, dict[str, Any]]:
    """The layer that enlarges `small` to `large`: `upsample` where one factor fits, otherwise `resize`."""
    if all(little * scale == big for little, big in zip(small, large, strict=True)):
        return {"upsample": {"scale": scale}}
    return {"resize": {"to": list(large)}}
