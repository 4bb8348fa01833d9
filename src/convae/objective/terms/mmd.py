"""Maximum mean discrepancy of the latents from the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.arguments import PositiveFloat
from convae.core.errors import ConfigError
from convae.core.precision import full_precision
from convae.core.types import PerImage
from convae.objective.terms._latents import latents_of
from convae.objective.terms.base import LossInputs, Term

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Factors on the squared bandwidth of WAE-MMD."""


class MMD(Term):
    """Squared maximum mean discrepancy of the latents from as many samples of the prior (Gretton et al. 2012).

    With `squared-error` and a deterministic bottleneck it is WAE-MMD (Tolstikhin et al. 2018, arXiv:1711.01558); with
    `reconstruction`, and `kl` of the weight 1 − α, InfoVAE (Zhao, Song & Ermon 2019, arXiv:1706.02262), where its
    weight is α + λ − 1. The unbiased estimate over the batch, which may be negative; it is the same for all images.
    With `training.accumulate` and in several processes it is the mean of the estimates of the slices: as unbiased, but
    noisier.

    With kernels summed over the scales s, C = 2 · latent values · bandwidth² and d the distance of two latents:

    - `imq`, inverse multiquadratic: Σ sC / (sC + d²);
    - `rbf`, Gaussian: Σ exp(−d² / sC).

    Args:
        kernel: of the two.
        bandwidth: standard deviation of the prior, in latent units.
        scales: of the kernel; by default those of WAE-MMD for `imq`, and 1 for `rbf`.
    """

    unit: ClassVar = "1"
    regularizes_posterior: ClassVar = True

    def __init__(
        self,
        *,
        kernel: Literal["imq", "rbf"] = "imq",
        bandwidth: PositiveFloat = 1.0,
        scales: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.scales: Sequence[float] = scales or (SCALES if kernel == "imq" else (1.0,))

    def forward(self, inputs: LossInputs) -> PerImage:
        """The estimate of the batch, for each image."""
        z = latents_of(inputs)
        prior = inputs.calls.sample_prior().flatten(1).to(z)
        count = len(z)
        if count == 1:
            raise ConfigError("needs a batch of two images or more")
        cross = self._kernel(z, prior).mean()
        value = _off_diagonal_mean(self._kernel(z, z)) + _off_diagonal_mean(self._kernel(prior, prior)) - 2 * cross
        return value.expand(count)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """(a, b): the kernel of each pair."""
        with full_precision(a.device):
            squares = (a[:, None] - b).square().sum(2)
        width = 2 * a.shape[1] * self.bandwidth**2
        each = [width * scale for scale in self.scales]
        if self.kernel == "rbf":
            return torch.stack([torch.exp(-squares / own) for own in each]).sum(0)
        return torch.stack([own / (own + squares) for own in each]).sum(0)


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    """The mean over pairs of different rows."""
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
