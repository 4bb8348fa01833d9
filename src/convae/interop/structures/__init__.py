"""Published networks for import and export, one file per class of diffusers."""

from convae.core.registry import Registry

STRUCTURES = Registry(__name__, "structure", "Structure")

__all__ = ["STRUCTURES"]
