"""Formats that models are exported to, one file each."""

from convae.core.registry import Registry

EXPORTERS = Registry(__name__, "exporter", "Exporter")

__all__ = ["EXPORTERS"]
