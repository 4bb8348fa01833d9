"""Feature networks, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

NETWORKS = Registry(__name__, "feature network", "FeatureNetwork")

__all__ = ["NETWORKS"]
