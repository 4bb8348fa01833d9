"""Layers of published autoencoders, with the names of their parameters in the published weights."""

from convae.model.published.layers import PublishedLayer, WeightSource

__all__ = ["PublishedLayer", "WeightSource"]
