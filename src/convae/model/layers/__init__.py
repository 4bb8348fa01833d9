"""Layers, one per file; `base` has the base classes."""

from convae.core.registry import Registry

LAYERS = Registry(__name__, "layer", "Layer")

__all__ = ["LAYERS"]
