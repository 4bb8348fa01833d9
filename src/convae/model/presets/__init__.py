"""One preset a file: a function of keyword arguments that gives a specification."""

from convae.core.registry import Registry

PRESETS = Registry(__name__, "preset")

__all__ = ["PRESETS"]
