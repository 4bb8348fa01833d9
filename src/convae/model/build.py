"""From a description to a model with values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from convae.model.description import Spec
from convae.model.initialise import initialise
from convae.model.spec import resolve
from convae.model.vae import VAE


def build(
    spec: str | Path | Mapping[str, Any] | Spec,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> VAE:
    """A new model, with fresh weights, in training mode.

    Args:
        spec: a preset's name, the path of a YAML or JSON file, or a mapping such as
            `{"preset": "torch-vae", "input": [3, 64, 64], "latent": 64}`; `input` is channels, then sizes.
        seed: for the weights; equal seeds give equal models.
        device: where the model lives.

    Raises:
        ConfigError: the description is wrong; every fault is listed.
        ShapeError: a layer cannot take the shape that reaches it.
    """
    model = VAE(spec if isinstance(spec, Spec) else resolve(spec))
    initialise(model, seed, device)
    return model
