"""The prior p(z): a module of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convae.core.context import LatentModule
from convae.core.errors import ConfigError
from convae.core.noise import Generators
from convae.core.posterior import CodePosterior, EstimatedPosterior, Posterior
from convae.core.types import Latents, PerImage, Shape
from convae.model.bottlenecks.base import Bottleneck


class Prior(nn.Module):
    """Prior p(z) over the latents of a model, or over the codes of its codebook.

    The constructor takes the model's bottleneck, for its shapes, and its configuration as keyword-only arguments; it
    initializes its parameters.

    Raises:
        ConfigError: the latents are unit vectors, and the prior is none over them.

    Attributes:
        has_closed_kl: whether the KL divergence of diagonal Gaussian posteriors, or codes, from it has a closed form.
        draws_codes: whether `sample` returns code indices, (count, *code shape), instead of latents, (count, *latent).
        has_temperature: whether `sample` takes a temperature other than 1.
        is_spherical: whether it is a prior over unit vectors, as those of the bottleneck von-mises-fisher.
        is_fitted_after: whether it is fitted to a trained model (`convae prior`), and not trained with it.
        is_fitted_at_once: whether `fit` computes its parameters, without steps of an optimizer.
        spans_hierarchy: whether it covers the latents of the decoder too, which its constructor takes as `below`.
        loss_name: name of `loss` in logs.
        loss_unit: unit of `loss`.
        classes: number of classes that `sample` takes labels of; 0 if it ignores labels.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    has_closed_kl: ClassVar[bool] = False
    draws_codes: ClassVar[bool] = False
    has_temperature: ClassVar[bool] = True
    is_spherical: ClassVar[bool] = False
    is_fitted_after: ClassVar[bool] = False
    is_fitted_at_once: ClassVar[bool] = False
    spans_hierarchy: ClassVar[bool] = False
    loss_name: ClassVar[str] = "nll"
    loss_unit: ClassVar[str] = "nats"
    classes: int = 0
    like: Tensor

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        if bottleneck.is_spherical and not self.is_spherical:
            raise ConfigError("its samples are not on the sphere of the latents. Use the prior uniform-sphere")
        self.latent_shape = bottleneck.latent_shape
        self._latents: tuple[LatentModule, ...] = (bottleneck,)  # in a tuple, as they are no part of the prior
        # Samples have the type and the device that the model was moved to, though a prior may have no parameters.
        self.register_buffer("like", torch.empty(0, device="cpu"), persistent=False)

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Latents, (count, *latent), or codes, (count, *code shape), drawn from the prior.

        Args:
            count: number of samples.
            noise: one generator, or one for each sample; torch's default generator without it.
            labels: (count,) class numbers, for a prior that depends on them.
            temperature: factor on the standard deviation; a prior over codes divides its logits by it.

        Raises:
            ShapeError: there is not one generator for each sample.
        """
        raise NotImplementedError

    def log_prob(self, z: Latents) -> PerImage:
        """Log p(z) of latents, (batch, *latent), nats; of a prior over codes the probability of their codes."""
        raise NotImplementedError

    def loss(self, values: Tensor, labels: Tensor | None = None, noise: Generators | None = None) -> PerImage:
        """The loss of fitting the prior to latents, in `loss_unit`: by default −log p(z).

        Args:
            values: latents, (batch, *latent); of a prior over codes the code indices, (batch, *code shape).
            labels: (batch,) class numbers, -1 if missing; None without labels.
            noise: for what the loss draws.
        """
        return -self.log_prob(self.bottleneck.embed_codes(values) if self.draws_codes else values)

    @property
    def bottleneck(self) -> Bottleneck:
        """The bottleneck of the model."""
        first = self._latents[0]
        assert isinstance(first, Bottleneck)
        return first

    @property
    def latents(self) -> tuple[LatentModule, ...]:
        """The modules of the latents that it is a prior over, from the top: the bottleneck, and maybe some below."""
        return self._latents

    @property
    def code_shape(self) -> Shape:
        """The shape of the codes of an image, of a prior over codes: of several latents, all in a row."""
        if len(self._latents) == 1:
            return self.bottleneck.code_shape
        return (sum(math.prod(each.code_shape) for each in self._latents),)

    def prepare(self, mean: Tensor, std: Tensor) -> None:
        """Called once with the posteriors of the training images, before the prior is fitted by gradients.

        Args:
            mean: (image, *latent), posterior means; empty of codes.
            std: (image, *latent), posterior standard deviations; empty of codes.
        """

    @classmethod
    def fit(
        cls, bottleneck: Bottleneck, latents: Latents, labels: Tensor | None, seed: int, arguments: Mapping[str, Any]
    ) -> tuple[Prior, dict[str, Any]]:
        """The prior fitted to latents, and its final arguments; only if `is_fitted_at_once`.

        Args:
            bottleneck: of the model.
            latents: (image, *latent), drawn from the posterior of each image.
            labels: (image,) class numbers, -1 if missing; None without labels.
            seed: random seed.
            arguments: validated arguments of the prior.
        """
        raise NotImplementedError

    def relate(self, posterior: Posterior, latent: Latents) -> Posterior:
        """The posterior with this as its prior: its `kl` is the divergence from it.

        A prior to which the divergence has a closed form returns a posterior with that. By default it is that of the
        codes, which are certain, and otherwise estimated.

        Args:
            posterior: q(z | x).
            latent: (batch, *latent), drawn from it, for the estimate.
        """
        if isinstance(posterior, CodePosterior):
            return replace(posterior, prior=lambda codes: self.log_prob(self.bottleneck.embed_codes(codes)))
        return EstimatedPosterior(posterior, latent, self.log_prob) if posterior.has_density else posterior

    def relate_all(self, posteriors: Mapping[str, Posterior]) -> dict[str, Posterior]:
        """The posteriors of all latents of a hierarchy by name, with this as the prior of those that it covers.

        Args:
            posteriors: of each latent, that of the bottleneck after `relate`.
        """
        return dict(posteriors)

    def bind(self, encode: Callable[[Tensor], Posterior], input_shape: Shape) -> None:
        """Gives a prior that is made of posteriors the model's encoder; called once, by the model.

        Args:
            encode: images, (batch, channel, *sizes) in [0, 1], to their posteriors.
            input_shape: (channels, *sizes) of the images.
        """

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters and buffers, with a CPU generator."""
