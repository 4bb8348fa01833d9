"""Presets, one per file: functions of keyword arguments that return a description of a model."""

from convae.core.registry import Registry

PRESETS = Registry(__name__, "preset")

__all__ = ["PRESETS"]
