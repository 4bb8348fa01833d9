"""The objective of a recipe that gives none: it depends on the latents of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from convae.core.context import LatentModule
from convae.core.errors import ConvaeError
from convae.describe import resolve
from convae.model.construct import construct_latents
from convae.model.parts import required_terms
from convae.objective.terms import TERMS

Terms = dict[str, dict[str, Any]]
"""The arguments of each term by its name, with `weight` among them."""
_SIZE = 64
"""Image size for which a description without an input is built."""


def default_objective(parts: Iterable[nn.Module]) -> Terms:
    """The objective of a model: reconstruction, `kl` for latents that are not codes, and required terms.

    Args:
        parts: a model, or those of its parts that have latents or quantizers.
    """
    modules = nn.ModuleList(parts)
    latents = [module for module in modules.modules() if isinstance(module, LatentModule)]
    is_gaussian = not latents or not all(module.is_discrete for module in latents)
    terms: Terms = {"reconstruction": {}, **({"kl": {}} if is_gaussian else {})}
    return terms | {name: {"weight": usual_weight(name)} for name in required_terms(modules) if name not in terms}


def described_objective(model: Mapping[str, Any], data: Any) -> Terms:
    """The objective of a described model, before its images are known; that of Gaussian latents if it has faults.

    Args:
        model: the model of a recipe.
        data: the data of a recipe, for the size of its images.
    """
    known = data if isinstance(data, Mapping) else {}
    size = known.get("size") or _SIZE
    try:
        if not {"input", "preset", "encode"} & set(model):
            model = {**model, "input": [known.get("channels") or 3, *([size] * 2 if isinstance(size, int) else size)]}
        return default_objective(construct_latents(resolve(model)))
    except (ConvaeError, TypeError):
        return default_objective([])


def usual_weight(term: str) -> float:
    """The weight of a required term in the default objective."""
    weight: float = TERMS.get(term).usual_weight
    return weight
