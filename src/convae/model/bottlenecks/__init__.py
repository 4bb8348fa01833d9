"""Bottlenecks, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

BOTTLENECKS = Registry(__name__, "bottleneck", "Bottleneck")

__all__ = ["BOTTLENECKS"]
