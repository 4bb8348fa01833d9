"""What identifies a model: its description, or the classes of its modules, and its weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from convae.core.checked_files import (
    digest,
)
from convae.model.adapters import merged_state
from convae.model.vae import VAE


def module_classes(model: VAE) -> dict[str, str]:
    """The qualified class name of each part of a model, by the name of the part."""
    return {name: f"{type(part).__module__}.{type(part).__qualname__}" for name, part in model.named_children()}


def fingerprint(model: VAE) -> str:
    """SHA-256 (hex) of the description and the weights of a model.

    Name and provenance are not included, so models that compute the same have the same fingerprint.
    """
    return _fingerprint(model, ())


def autoencoder_fingerprint(model: VAE) -> str:
    """SHA-256 (hex) of the parts that encode and decode: all but the prior, on which latents do not depend.

    A model and the same model with another prior have the same one, so that each decodes latents of the other.
    """
    return _fingerprint(model, ("prior",))


def _fingerprint(model: VAE, without: tuple[str, ...]) -> str:
    """SHA-256 (hex) of the description and the weights of a model without the parts named."""
    described: dict[str, Any]
    if model.is_described:
        described = model.spec.model_dump(mode="json", exclude={"name", *without})
    else:
        described = {"modules": {name: kind for name, kind in module_classes(model).items() if name not in without}}
    weights = {
        name: digest(tensor) for name, tensor in merged_state(model).items() if name.partition(".")[0] not in without
    }
    return hashlib.sha256(json.dumps([described, weights], sort_keys=True).encode()).hexdigest()
