"""One metric a file; `base.py` says what a metric is."""

from convae.core.registry import Registry

METRICS = Registry(__name__, "metric", "Metric")

__all__ = ["METRICS"]
