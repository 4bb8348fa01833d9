"""One bottleneck a file; `base.py` says what a bottleneck is."""

from convae.core.registry import Registry

BOTTLENECKS = Registry(__name__, "bottleneck", "Bottleneck")

__all__ = ["BOTTLENECKS"]
