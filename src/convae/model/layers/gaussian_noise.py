"""Additive noise."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.arguments import PositiveFloat
from convae.core.context import Context
from convae.core.noise import normal_like
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer


class GaussianNoise(ContextLayer):
    """Adds Gaussian noise in training: as the first layer of the encoder, a denoising autoencoder.

    Vincent et al. 2008, doi:10.1145/1390156.1390294. The loss compares with the image without noise (denoising VAE, Im
    et al. 2017, arXiv:1511.06406). The noise of masks is `dropout`.

    As the first layer of the decoder it is noise of the latent: with `varies`, that of representation autoencoders
    (Zheng et al. 2025, arXiv:2510.11690), whose decoders tolerate the errors of a prior.

    Args:
        shape: any.
        sigma: standard deviation, in the unit of the input; for images, 1 is white.
        varies: whether the standard deviation of each image is drawn uniformly between 0 and `sigma`.
    """

    keeps_shape = True
    only_in_training = True

    def __init__(self, shape: Shape, *, sigma: PositiveFloat = 0.1, varies: bool = False) -> None:
        super().__init__(shape)
        self.sigma, self.varies = sigma, varies

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """Any shape."""
        if not self.training:
            return x
        noise = None if context is None else context.unit_noise_for(self.stream)
        added = self.sigma * normal_like(x, noise)
        if self.varies:
            own = None if context is None else context.unit_noise_for(f"{self.stream}/sigma")
            # Uniform values in (0, 1), from normal ones, of which a source for each image is at hand.
            uniform = torch.special.ndtr(normal_like(x.new_empty(len(x), 1, dtype=torch.float32), own)).to(x)
            added = added * uniform.view(-1, *(1,) * (x.ndim - 1))
        return x + added
