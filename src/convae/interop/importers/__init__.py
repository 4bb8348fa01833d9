"""Importers: functions that read the checkpoint of one foreign project, one file each, named by its preset."""

from convae.core.registry import Registry

IMPORTERS = Registry(__name__, "foreign format")

__all__ = ["IMPORTERS"]
