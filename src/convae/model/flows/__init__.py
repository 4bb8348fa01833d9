"""Normalizing flows, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

FLOWS = Registry(__name__, "flow", "Flow")

__all__ = ["FLOWS"]
