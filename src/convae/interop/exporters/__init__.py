"""Exporters, one file per format."""

from convae.core.registry import Registry

EXPORTERS = Registry(__name__, "exporter", "Exporter")

__all__ = ["EXPORTERS"]
