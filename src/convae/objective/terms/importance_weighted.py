"""Importance-weighted bounds on the likelihood."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.errors import ConfigError
from convae.core.joint_posterior import JointPosterior
from convae.core.output import importance_bound
from convae.core.posterior import Posterior
from convae.core.precision import with_gradient_of
from convae.core.types import Latents, PerImage
from convae.objective.terms.base import LossInputs, Term


class ImportanceWeighted(Term):
    """Importance-weighted bound, −log 1/K Σ p(x, zₖ) / q(zₖ | x) with K latents of each image (Burda et al. 2016).

    IWAE, arXiv:1509.00519: an upper bound on −log p(x) that is tighter than the ELBO, which it takes the place of:
    leave out `reconstruction` and `kl`, or give them with weight 0 to log them. It needs a posterior with a density,
    and any prior. Memory and time of the decoder are those of K images.

    - MIWAE (Rainforth et al. 2018, arXiv:1802.04537): the mean of M bounds, `bounds: M`, of K samples each.
    - PIWAE (the same): with `partial`, only the encoder follows this mean; the decoder and a learned prior follow the
      bound of all M × K samples.
    - CIWAE (the same): weights (1 − β) of this term and β of `reconstruction` and `kl`.
    - DReG (Tucker et al. 2019, arXiv:1810.04152): with `doubly_reparameterized`, the gradient of the encoder has less
      variance, and the same mean.

    Args:
        samples: K, latents of each bound.
        bounds: M, number of bounds that are averaged.
        partial: whether decoder and prior follow the bound of all samples instead of the mean.
        doubly_reparameterized: whether the encoder follows the doubly reparameterized gradient.
    """

    unit: ClassVar = "nats"
    regularizes_posterior: ClassVar = True

    def __init__(
        self,
        *,
        samples: Positive = 5,
        bounds: Positive = 1,
        partial: bool = False,
        doubly_reparameterized: bool = False,
    ) -> None:
        super().__init__()
        self.samples, self.bounds = samples, bounds
        self.partial, self.doubly_reparameterized = partial, doubly_reparameterized
        self.samples_per_image = samples * bounds

    def forward(self, inputs: LossInputs) -> PerImage:
        """The bound of each image, for each of its rows."""
        if inputs.samples != self.samples_per_image:
            raise ConfigError(
                f"needs {self.samples_per_image} samples of each image, got {inputs.samples}. "
                "Call the model with samples=objective.samples"
            )
        posterior = inputs.posterior
        joint, own = inputs.output.log_joint(inputs.values, inputs.value_weights), inputs.output.log_posterior()
        log_weights = self._grouped(joint - own)
        # The bound of PIWAE's decoder is the tighter one.
        cost: Tensor = -importance_bound(log_weights.flatten(1) if self.partial else log_weights)
        cost = cost if self.partial else cost.mean(1)
        if (self.partial or self.doubly_reparameterized) and joint.requires_grad:
            cost = with_gradient_of(
                cost, -self._surrogate(posterior, inputs.output.latent, joint, own, log_weights.detach())
            )
        rows: PerImage = cost.to(inputs.output.latent.dtype).repeat_interleave(inputs.samples, 0)
        return rows

    def _grouped(self, rows: Tensor) -> Tensor:
        """(images × samples,) to (image, bound, sample)."""
        grouped: Tensor = rows.unflatten(0, (-1, self.bounds, self.samples))
        return grouped

    def _surrogate(
        self, posterior: Posterior, z: Latents, joint: PerImage, own: PerImage, log_weights: Tensor
    ) -> Float[Tensor, " image"]:
        """A value of each image, whose gradient is the wanted one: it may differ for the encoder and the decoder.

        Args:
            posterior: q(z | x) of each row.
            z: the latent of each row.
            joint: log p(x, z) of each row.
            own: log q(z | x) of each row.
            log_weights: (image, bound, sample), without gradient.
        """
        if isinstance(posterior, JointPosterior):
            raise ConfigError("partial and doubly_reparameterized need a model with one latent. Leave them out")
        if self.doubly_reparameterized and posterior.is_density_of_noise:
            raise ConfigError("doubly_reparameterized needs a posterior without a flow. Leave it out")
        normalized = torch.softmax(log_weights, -1)
        encoder = (normalized.square() if self.doubly_reparameterized else normalized).flatten() / self.bounds
        decoder = torch.softmax(log_weights.flatten(1), 1) if self.partial else normalized / self.bounds
        decoder = decoder.flatten()
        # The gradient with respect to the parameters of the decoder is that of the first sum. Its gradient with respect
        # to the latents is replaced by that of the encoder's.
        rows, moved = decoder * joint, (encoder - decoder) * joint
        if self.doubly_reparameterized:
            moved = moved - encoder * own
        else:
            rows = rows - encoder * own
        if z.requires_grad:
            (path,) = torch.autograd.grad(moved.sum(), z, retain_graph=True)
            rows = rows + (path * z).flatten(1).sum(1)
        return self._grouped(rows).flatten(1).sum(1)
