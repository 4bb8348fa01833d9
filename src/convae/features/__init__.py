"""Feature networks: frozen networks in whose features images are compared, by terms and by metrics."""

from __future__ import annotations

from convae.features.networks import NETWORKS
from convae.features.networks.base import FeatureNetwork, build_feature_network

__all__ = ["NETWORKS", "FeatureNetwork", "build_feature_network"]
