"""Base classes of layers, networks (lists of layers), and helpers for shapes."""

from convae.model.layers.base.feature_map import FeatureMap
from convae.model.layers.base.layer import (
    Activation,
    ContextLayer,
    Layer,
    ReceptiveField,
    along_channels,
    compose,
    full_receptive_field,
    needs_axes,
    per_axis,
    run_layers,
    window_fits,
)
from convae.model.layers.base.network import Network, uncompiled

__all__ = [
    "Activation",
    "ContextLayer",
    "FeatureMap",
    "Layer",
    "Network",
    "ReceptiveField",
    "along_channels",
    "compose",
    "full_receptive_field",
    "needs_axes",
    "per_axis",
    "run_layers",
    "uncompiled",
    "window_fits",
]
