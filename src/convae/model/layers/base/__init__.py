"""What layers are made of: the base classes, lists of layers, and helpers for shapes."""

from convae.model.layers.base.layer import (
    Activation,
    Layer,
    Reach,
    along_channels,
    everything,
    in_a_row,
    joined,
    needs_axes,
    per_axis,
    window_fits,
)
from convae.model.layers.base.network import Network

__all__ = [
    "Activation",
    "Layer",
    "Network",
    "Reach",
    "along_channels",
    "everything",
    "in_a_row",
    "joined",
    "needs_axes",
    "per_axis",
    "window_fits",
]
