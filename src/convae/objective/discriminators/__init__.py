"""Discriminators of images, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

DISCRIMINATORS = Registry(__name__, "discriminator", "Discriminator")

__all__ = ["DISCRIMINATORS"]
