"""Adversarial loss of reconstructions and samples."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import Named, NonNegativeFloat, Positive, PositiveFloat
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Images, PerImage, Shape
from convae.objective.discriminators.base import DiscriminatorEntry, build_discriminator
from convae.objective.terms._augment import Augmentation
from convae.objective.terms._image_critic import (
    RECONSTRUCTIONS,
    SAMPLES,
    CriticOptions,
    Fakes,
    ImageCritic,
    Loss,
    as_constant,
    mean_of_scales,
)
from convae.objective.terms._latent_critic import Beta
from convae.objective.terms.base import CriticTerm, LossInputs

_VALUES: dict[Loss, Callable[[Tensor], Tensor]] = {
    "hinge": torch.neg,
    "non-saturating": lambda logits: F.softplus(-logits),
    "minimax": lambda logits: -F.softplus(logits),
}
"""The loss of the model, of logits of fakes."""


class Adversarial(CriticTerm[ImageCritic]):
    """Adversarial loss: a discriminator tells images from reconstructions, and the model is trained against it.

    As in VQGAN (Esser et al. 2021, arXiv:2012.09841), with `reconstruction` and usually `perceptual`. The
    discriminator has its own optimizer, and a step after that of the model on the same images. It is trained while the
    weight is 0 as well: give it a head start with a stage of weight 0, or a weight that rises.

    With `adaptive`, weight 1 makes the gradient as large as that of all other terms: it is multiplied by the ratio of
    their norms at the decoder's raw values, a running mean over about ten steps, at most `max_ratio`. It is 0 in the
    first step of the term. The value in the log is without this factor.

    In a VAE/GAN (Larsen et al. 2016, arXiv:1512.09300), with `kl` and `feature-matching`, the discriminator also sees
    images decoded from samples of the prior, and the encoder has no gradient of the term: `fakes: both`,
    `trains_encoder: false`, `adaptive: false`. Such a step decodes three times.

    Args:
        discriminator: the network.
        loss: `hinge`; `non-saturating` or `minimax` (Goodfellow et al. 2014, arXiv:1406.2661), whose gradient vanishes
            where the discriminator is sure; or `relativistic`, which compares the logits of an image and its
            reconstruction (Huang et al. 2024, arXiv:2501.05441).
        fakes: what the discriminator tells from images: `reconstructions`, `samples` of the prior of the model, as
            many as reconstructions, or `both`, whose losses are added.
        trains_encoder: whether the gradient reaches the encoder through reconstructions. If not, they are decoded once
            more from the same latents, which train the decoder alone.
        adaptive: whether the gradient is relative to that of all other terms.
        max_ratio: largest factor of `adaptive`.
        r1: weight γ of the penalty γ/2 ‖∇D‖² at images (Mescheder et al. 2018, arXiv:1801.04406).
        r2: the same at reconstructions.
        penalty_every: steps between those in which penalties are computed, with their weights multiplied by it.
        lecam: weight of LeCAM regularization, which holds logits near running means (arXiv:2104.03310).
        augment: augmentations of all images that the discriminator sees: `color`, `translation`, `cutout`
            (differentiable augmentation, arXiv:2006.10738), for small data sets.
        pause_above: running accuracy above which the loss of the discriminator is 0, so that the model can catch up;
            None never.
        lr: learning rate of the discriminator.
        betas: of its Adam.
        schedule: of its learning rate; by default that of the model.
    """

    unit: ClassVar = "logits"
    example: ClassVar = {"discriminator": {"patch": {"channels": 4, "layers": 1}}, "adaptive": False}

    def __init__(
        self,
        *,
        discriminator: DiscriminatorEntry = "patch",
        loss: Loss = "hinge",
        fakes: Fakes = "reconstructions",
        trains_encoder: bool = True,
        adaptive: bool = True,
        max_ratio: PositiveFloat = 1e4,
        r1: NonNegativeFloat = 0.0,
        r2: NonNegativeFloat = 0.0,
        penalty_every: Positive = 16,
        lecam: NonNegativeFloat = 0.0,
        augment: list[Augmentation] = [],  # noqa: B006  # read only
        pause_above: Annotated[float, Field(gt=0.5, lt=1)] | None = None,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Beta, Beta] = (0.5, 0.9),
        schedule: float | Named | None = None,
    ) -> None:
        super().__init__()
        if adaptive and (fakes == "samples" or not trains_encoder):
            raise ConfigError(
                "adaptive compares gradients at reconstructions that the encoder is trained by. Set adaptive: false"
            )
        self.discriminator, self.trains_encoder = discriminator, trains_encoder
        self.options = CriticOptions(
            loss=loss,
            fakes=fakes,
            r1=r1,
            r2=r2,
            penalty_every=penalty_every,
            lecam=lecam,
            augment=augment,
            pause_above=pause_above,
            max_ratio=max_ratio if adaptive else None,
        )
        self.optimizer: dict[str, Any] = {"name": {"adam": {"betas": betas}}, "lr": lr, "weight_decay": 0.0}
        if schedule is not None:
            self.optimizer["schedule"] = schedule

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Creates the discriminator."""
        if self.critic is None or self.critic.discriminator.image_shape != image_shape:
            made = build_discriminator(self.discriminator, image_shape)
            made.reset(torch_generator(0, "discriminator"))
            self.hold(ImageCritic(made, self.options, self.optimizer))

    def forward(self, inputs: LossInputs) -> PerImage:
        """The loss of the model for each image; without a gradient for the discriminator.

        Raises:
            ConfigError: the term is not bound.
        """
        critic, loss = self.bound_critic, self.options.loss
        has_gradient = inputs.weight != 0 and torch.is_grad_enabled()
        with as_constant(critic), contextlib.nullcontext() if has_gradient else torch.no_grad():
            fakes = [critic(critic.augmented(images, inputs, name)) for name, images in self._fakes(inputs, critic)]
            if loss == "relativistic":
                with torch.no_grad():
                    real = critic(critic.augmented(inputs.images, inputs, "real"))
                values = [[F.softplus(x - y) for x, y in zip(real, fake, strict=True)] for fake in fakes]
            else:
                values = [[_VALUES[loss](y) for y in fake] for fake in fakes]
            return torch.stack([mean_of_scales(each) for each in values]).sum(0)

    def _fakes(self, inputs: LossInputs, critic: ImageCritic) -> Iterator[tuple[str, Images]]:
        """The images that the discriminator is to take for real, by the name of their augmentation."""
        if self.options.fakes != "samples":
            yield RECONSTRUCTIONS, self._reconstruction(inputs, critic)
        if self.options.fakes != "reconstructions":
            samples = inputs.calls.decode_prior().mean
            if critic.max_ratio is not None and samples.requires_grad:
                ratio = critic.ratio
                samples.register_hook(lambda gradient: gradient * ratio.to(gradient.dtype))
            yield SAMPLES, samples

    def _reconstruction(self, inputs: LossInputs, critic: ImageCritic) -> Images:
        """The mean of p(x | z); with `adaptive`, its gradient is multiplied by the ratio, and both norms measured."""
        if not self.trains_encoder and torch.is_grad_enabled():
            return inputs.calls.decode(inputs.output.latent.detach()).mean
        if critic.max_ratio is None:
            return inputs.reconstruction
        raw = inputs.calls.raw
        own = critic.balanced(raw, inputs.weight)
        return inputs.reconstruction if own is raw else inputs.calls.likelihood(own).mean
