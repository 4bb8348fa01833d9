"""Latents that are made of codes: what lies between them is quantized again, and what scales them is refused."""

from __future__ import annotations

import torch

from convae.core.errors import ConfigError
from convae.core.types import Latents
from convae.latents.encoding import Encoding
from convae.model.vae import VAE


@torch.no_grad()
def nearest_latents(model: VAE, z: Latents) -> Latents:
    """The nearest latents that the model's bottleneck can give, on the CPU.

    Of a model with a codebook each place becomes its nearest code: what lies between two codes is no latent that the
    decoder was trained on. Latents of other models stay as they are.
    """
    parameter = next(model.parameters())
    return model.quantize(z.to(parameter.device, parameter.dtype)).cpu().to(z.dtype)


def require_continuous(encoding: Encoding, what: str) -> None:
    """Refuses latents that are codes.

    Args:
        encoding: the images.
        what: is asked of them, for the message.

    Raises:
        ConfigError: the latents come from a codebook.
    """
    if encoding.codes is not None:
        raise ConfigError(
            f"{what} needs a Gaussian posterior, and these latents are codes: the values of a code have no scale and "
            "no KL divergence of their own. interpolate, translate and clusters take codes"
        )
