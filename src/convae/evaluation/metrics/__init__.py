"""Metrics, one file each; the interface is in `base.py`."""

from convae.core.registry import Registry

METRICS = Registry(__name__, "metric", "Metric")

__all__ = ["METRICS"]
