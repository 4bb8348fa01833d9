"""Published networks whose weights are imported and exported, one file each, named by their class in diffusers."""

from convae.core.registry import Registry

STRUCTURES = Registry(__name__, "structure", "Structure")

__all__ = ["STRUCTURES"]
