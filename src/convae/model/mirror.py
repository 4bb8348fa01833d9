"""What a decoder needs so that it gives what its likelihood takes, at exactly the sizes of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.types import Shape
from convae.model.likelihoods import LIKELIHOODS


def raw_channels(likelihood: Named, shape: Shape) -> int:
    """The channels that a decoder has to give for images of `shape` under a likelihood."""
    name, given = split_name(likelihood, "likelihood")
    head: Any = LIKELIHOODS.get(name)
    channels: int = head(**parse_arguments(head, given, f"likelihood {name}")).raw_channels(shape[0])
    return channels


def enlarging_layer(small: Sequence[int], large: Sequence[int], scale: int) -> dict[str, dict[str, Any]]:
    """The layer that brings the small sizes to the large ones: by one factor where that fits, else to exact sizes."""
    if all(little * scale == big for little, big in zip(small, large, strict=True)):
        return {"upsample": {"scale": scale}}
    return {"resize": {"to": list(large)}}
