"""One layer a file; `base.py` says what a layer is."""

from convae.core.registry import Registry

LAYERS = Registry(__name__, "layer", "Layer")

__all__ = ["LAYERS"]
