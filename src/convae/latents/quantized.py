"""Operations on latents of models with a codebook."""

from __future__ import annotations

import torch

from convae.core.errors import ConfigError
from convae.core.types import Latents
from convae.latents.encoding import Encoding
from convae.model.vae import VAE


@torch.no_grad()
def nearest_latents(model: VAE, z: Latents) -> Latents:
    """Quantizes latents to those that the bottleneck can produce, on the CPU.

    With a codebook, each position becomes its nearest code, since the decoder was trained on codes only. Other latents
    are unchanged.
    """
    parameter = next(model.parameters())
    return model.quantize(z.to(parameter.device, parameter.dtype)).cpu().to(z.dtype)


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
