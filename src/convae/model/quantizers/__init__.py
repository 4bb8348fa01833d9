"""Quantizers, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

QUANTIZERS = Registry(__name__, "quantizer", "Quantizer")

__all__ = ["QUANTIZERS"]
