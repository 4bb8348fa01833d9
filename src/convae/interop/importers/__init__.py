"""Importers, one file per foreign project: functions from a state dictionary to a model."""

from convae.core.registry import Registry

IMPORTERS = Registry(__name__, "importer")

__all__ = ["IMPORTERS"]
