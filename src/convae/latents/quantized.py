"""Latents that the bottleneck can produce, such as codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

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


def nearest_paths(
    model: VAE, paths: Float[Tensor, "paths steps *latent"], encoded: Sequence[int]
) -> Float[Tensor, "paths steps *latent"]:
    """The `nearest_latents` of paths, on the CPU, except at steps whose latents the encoder gave.

    The greedy search of residual codes may replace the codes of an image by others.

    Args:
        model: the model.
        paths: latents.
        encoded: positions along `steps` that are left unchanged.
    """
    nearest = nearest_latents(model, paths.flatten(0, 1)).view_as(paths)
    nearest[:, encoded] = paths[:, encoded].cpu()
    return nearest


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
