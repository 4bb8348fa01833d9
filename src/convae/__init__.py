"""convae: convolutional variational autoencoders.

Describe a model in a few lines, train it by a staged recipe, evaluate it, explore its latent space, and share it as one
safe folder. Importing the package does not import torch: public names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convae.core.version import VERSION

__version__ = VERSION

_HOMES = {
    "Session": "convae.latents.session",
    "VAE": "convae.model.vae",
    "build": "convae.describe",
    "build_objective": "convae.objective.objective",
    "distill": "convae.training",
    "fit_prior": "convae.training",
    "load": "convae.model.artifact",
    "save": "convae.model.artifact",
    "resume": "convae.training",
    "train": "convae.training",
    "Provenance": "convae.model.provenance",
    "ArtifactError": "convae.core.errors",
    "ConfigError": "convae.core.errors",
    "ConvaeError": "convae.core.errors",
    "DataError": "convae.core.errors",
    "OutputError": "convae.core.errors",
    "ShapeError": "convae.core.errors",
    "TrainingError": "convae.core.errors",
    "TrustError": "convae.core.errors",
}
__all__ = [
    "VAE",
    "ArtifactError",
    "ConfigError",
    "ConvaeError",
    "DataError",
    "OutputError",
    "Provenance",
    "Session",
    "ShapeError",
    "TrainingError",
    "TrustError",
    "build",
    "build_objective",
    "distill",
    "fit_prior",
    "load",
    "resume",
    "save",
    "train",
]

_PACKAGES = (
    "data",
    "describe",
    "evaluation",
    "explorer",
    "features",
    "interop",
    "latents",
    "model",
    "notations",
    "objective",
    "pictures",
    "testing",
    "training",
    "types",
)
"""Packages with public names, which are imported on first use as well."""

if TYPE_CHECKING:
    from convae.core.errors import (
        ArtifactError,
        ConfigError,
        ConvaeError,
        DataError,
        OutputError,
        ShapeError,
        TrainingError,
        TrustError,
    )
    from convae.describe import build
    from convae.latents.session import Session
    from convae.model.artifact import load, save
    from convae.model.provenance import Provenance
    from convae.model.vae import VAE
    from convae.objective.objective import build_objective
    from convae.training import distill, fit_prior, resume, train


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"convae.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'convae' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
