"""Latents that the bottleneck can produce, such as codes."""

from __future__ import annotations

import torch

from convae.core.errors import ConfigError
from convae.core.types import Latents
from convae.latents.encoding import Encoding
from convae.model.vae import VAE


@torch.no_grad()
def nearest_latents(model: VAE, z: Latents) -> Latents:
    """The nearest latents that the bottleneck can produce, on the CPU: the decoder was trained on those only.

    With a codebook, each position becomes its nearest code; on a sphere, vectors get the length 1. Other latents are
    unchanged.
    """
    parameter = next(model.parameters())
    return model.nearest_latents(z.to(parameter.device, parameter.dtype)).cpu().to(z.dtype)


def require_continuous(encoding: Encoding, what: str) -> None:
    """Checks that latents are continuous.

    Args:
        encoding: the images.
        what: the operation, for the message.

    Raises:
        ConfigError: the latents come from a codebook.
    """
    if encoding.codes is not None:
        raise ConfigError(
            f"{what} needs a Gaussian posterior, and these latents are codes: the values of a code have no scale and "
            "no KL divergence of their own. interpolate, translate and clusters take codes"
        )
