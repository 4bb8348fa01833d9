"""Layers of published networks, and where their parameters are in the published weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convae.core.arguments import Named, split_name


@dataclass(frozen=True)
class WeightSource:
    """Where the parameters of a module are in published weights.

    Attributes:
        paths: modules whose output channels are concatenated to those of ours; one for most modules.
        is_linear: whether a 1×1 kernel is stored as the matrix (out, in) of a linear layer.
    """

    paths: tuple[str, ...]
    is_linear: bool = False


@dataclass(frozen=True)
class PublishedLayer:
    """A layer of a published network.

    Attributes:
        layer: as in a list of layers.
        sources: path of a module inside the layer, empty for the layer itself, to its source; empty for layers without
            parameters.
    """

    layer: Any
    sources: Mapping[str, WeightSource] = field(default_factory=dict)


def named(layer: Any, path: str) -> PublishedLayer:
    """A layer whose parameters have the same names at `path`."""
    return PublishedLayer(layer, {"": WeightSource((path,))})


def layer_list(layers: Iterable[PublishedLayer]) -> list[Any]:
    """The layers alone, as in a description."""
    return [each.layer for each in layers]


def has_identity_link(likelihood: Named) -> bool:
    """Whether a likelihood takes the decoder's values as images, so that they need the range [0, 1]."""
    return split_name(likelihood, "likelihood")[1].get("link") == "identity"


TO_SIGNED = PublishedLayer({"rescale": {"scale": 2.0, "offset": -1.0}})
"""Images in [0, 1] to [-1, 1], the range of most published networks."""
TO_UNIT = PublishedLayer({"rescale": {"scale": 0.5, "offset": 0.5}})
"""The range [-1, 1] of most published networks to [0, 1]."""
