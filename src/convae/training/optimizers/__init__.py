"""Optimizers, one file each; `base.py` builds them from the options of a recipe."""

from convae.core.registry import Registry

OPTIMIZERS = Registry(__name__, "optimizer", "Optimizer")

__all__ = ["OPTIMIZERS"]
