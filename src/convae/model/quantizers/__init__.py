"""Quantizers, one file each; the interface is in `base.py`."""

from convae.core.registry import Registry

QUANTIZERS = Registry(__name__, "quantizer", "Quantizer")

__all__ = ["QUANTIZERS"]
