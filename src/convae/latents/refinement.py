"""Posteriors that are refined for each image, from what the encoder gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.core.output import Output
from convae.core.random import torch_generator
from convae.core.types import Images, PerImage
from convae.model.autoencoder import Features
from convae.model.condition import Labels
from convae.model.inference import EncodedBatch, TorchEngine
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE

LEARNING_RATE = 0.05
COMPARED = 4
"""Latents of each image by which its refined posterior is compared with that of the encoder."""


def refine(
    model: VAE,
    images: Images,
    labels: Labels | None = None,
    *,
    steps: Positive = 50,
    learning_rate: float = LEARNING_RATE,
    weights: Tensor | None = None,
    cost: Callable[[Output, Images], PerImage] | None = None,
) -> Features:
    """Refines the posterior of each image by gradient descent on its negative ELBO, with the decoder as it is.

    Starts at the encoder's mean and log-variance and takes steps of Adam with a learning rate that falls linearly to
    0, each with one latent (semi-amortized inference, Kim et al. 2018, arXiv:1802.02550; on the amortization gap:
    Cremer et al. 2018, arXiv:1801.03558). An image whose ELBO has not improved keeps the encoder's posterior.
    The result depends on the image alone, not on its batch, up to rounding. A step costs about as much as three passes
    through the decoder.

        features = refine(model, images, steps=100)
        posterior, output = model.posterior_of(features), model.decode_features(features)

    Args:
        model: its mode and its weights are not changed.
        images: (batch, channel, *sizes) in [0, 1].
        labels: class numbers, for a conditional model.
        steps: number of steps.
        learning_rate: of the first step, in units of latent values and log-variances.
        weights: (batch, channel or 1, *sizes), weight of each value, see `Likelihood.log_prob`.
        cost: of the output for each image, in place of the negative ELBO.

    Raises:
        ShapeError: the model does not accept images of this shape.
        ConfigError: the model is conditional, and labels are missing; or its posterior has no parameters to refine.
    """
    require_refinable(model)
    price = cost or (lambda output, x: output.posterior.kl() - output.likelihood.log_prob(x, weights))

    def spent(values: Tensor, noise: list[torch.Generator]) -> PerImage:
        return price(model.decode_head(values, noise, labels), images)

    def generators(purpose: str) -> list[torch.Generator]:
        return [torch_generator(0, "refinement", purpose) for _ in images]

    with evaluation_mode(model), torch.no_grad():
        features = model.encode_features(images, labels)
        start = model.bottleneck.head_output(features.values)
        noise = generators("steps")
        with torch.enable_grad():
            values = start.detach().clone().requires_grad_()
            optimizer = torch.optim.Adam([values], lr=learning_rate)
            for step in range(steps):
                optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
                # Only the gradient for the latents is computed, not those of the weights.
                (values.grad,) = torch.autograd.grad(spent(values, noise).sum(), values)
                optimizer.step()
        before, after = (
            torch.stack([spent(each, noise) for _ in range(COMPARED)]).mean(0)
            for each, noise in ((start, generators("comparison")), (values.detach(), generators("comparison")))
        )
        is_better = (after < before).view(-1, *(1,) * (start.ndim - 1))
        return replace(features, values=torch.where(is_better, values.detach(), start), is_head=True)


def is_refinable(model: VAE) -> bool:
    """Whether a model has a single latent, whose posterior has a density."""
    return model.has_single_latent and not model.bottleneck.is_discrete and model.bottleneck.has_density


def require_refinable(model: VAE) -> None:
    """Checks that the posteriors of a model can be refined.

    Raises:
        ConfigError: it has several latents or quantizers, or posteriors without a density.
    """
    if not is_refinable(model):
        raise ConfigError(
            f"model '{model.name}' has no posterior to refine: that takes a single latent with a density, such as that "
            "of the bottleneck 'gaussian'"
        )


def describe_refinement(steps: int) -> dict[str, Any]:
    """The entry of protocols; none without refinement."""
    return {"refinement": {"steps": steps, "learning_rate": LEARNING_RATE}} if steps else {}


def refinement_text(steps: int) -> str:
    """What titles say of refined posteriors; empty without refinement."""
    return f", refined by {count_text(steps, 'step')}" if steps else ""


def torch_engine(model: VAE, refinement_steps: int = 0) -> TorchEngine:
    """torch, with the posteriors of the encoder or refined ones.

    Raises:
        ConfigError: see `require_refinable`.
    """
    return RefiningEngine(model, refinement_steps) if refinement_steps else TorchEngine(model)


class RefiningEngine(TorchEngine):
    """torch, on the device of the model, with refined posteriors.

    Args:
        model: the model.
        steps: see `refine`.

    Raises:
        ConfigError: see `require_refinable`.
    """

    name = "torch refining"

    def __init__(self, model: VAE, steps: int) -> None:
        super().__init__(model)
        require_refinable(model)
        self.refinement_steps = steps

    def encode(self, images: Images, labels: Labels | None = None, weights: Tensor | None = None) -> EncodedBatch:
        """Refined posteriors; see `InferenceEngine.encode`."""
        device = self._device
        own = None if labels is None else labels.to(device)
        own_weights = None if weights is None else weights.to(device)
        features = refine(self.model, images.to(device), own, steps=self.refinement_steps, weights=own_weights)
        with torch.no_grad(), evaluation_mode(self.model):
            return EncodedBatch.of(self.model.posterior_of(features))
