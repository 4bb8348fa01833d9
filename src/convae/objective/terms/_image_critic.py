"""A discriminator of images with its loss and running means."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.collective import shared_sum
from convae.core.precision import at_least_float32
from convae.core.slices import is_first_pass, later_sums
from convae.core.types import Images, PerImage
from convae.objective.discriminators.base import Discriminator
from convae.objective.terms._augment import Augmentation, augment
from convae.objective.terms._balance import BalancedCritic
from convae.objective.terms.base import LossInputs

Loss = Literal["hinge", "non-saturating", "minimax", "relativistic"]
Fakes = Literal["reconstructions", "samples", "both"]
SHOWN_DECAY = 0.99
"""Decay of the running means of logits and accuracy."""
WINS, LOSES = 0.98, 0.52
"""Running accuracy above which a discriminator has won, and below which it has lost."""
LEAST_STEPS = 500
"""Steps of the discriminator before it is judged."""
RECONSTRUCTIONS, SAMPLES = "fake", "fake samples"
"""Names of the augmentations of reconstructions and of samples."""


@dataclass(frozen=True, kw_only=True)
class CriticOptions:
    """Options of the loss of a discriminator; see `Adversarial`."""

    loss: Loss
    fakes: Fakes
    r1: float
    r2: float
    penalty_every: int
    lecam: float
    augment: Sequence[Augmentation]
    pause_above: float | None
    max_ratio: float | None


class ImageCritic(BalancedCritic):
    """A discriminator of images with running means over steps, which are in checkpoints.

    Attributes:
        discriminator: the network.
        logits: mean logit of images and of fakes.
        accuracy: mean fraction of logits with the right sign.
        steps: number of steps of the discriminator.
    """

    metric_units: ClassVar[Mapping[str, str]] = {
        "accuracy": "fraction of patches",
        "ratio": "ratio of gradient norms",
    }
    logits: Tensor
    accuracy: Tensor
    steps: Tensor

    def __init__(self, discriminator: Discriminator, options: CriticOptions, optimizer: dict[str, Any]) -> None:
        super().__init__(options.max_ratio)
        self.discriminator, self.options, self.optimizer = discriminator, options, optimizer
        self.register_buffer("logits", torch.zeros(2))
        self.register_buffer("accuracy", torch.full((), 0.5))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: Images) -> tuple[Tensor, ...]:
        """Logits of each scale, (batch, location), in float32 or wider."""
        weight = next(self.parameters())
        found = self.discriminator(images.to(weight.device, weight.dtype))
        return tuple(at_least_float32(logits) for logits in found)

    def features(self, images: Images) -> list[Sequence[Tensor]]:
        """Activations of the hidden layers of each scale, (batch, …) each."""
        weight = next(self.parameters())
        return list(self.discriminator.features(images.to(weight.device, weight.dtype)))

    def loss(self, inputs: LossInputs) -> PerImage:
        """Loss of the discriminator with its penalties."""
        own, step = self.options, inputs.moment.step
        is_penalized = bool(own.r1 or own.r2) and step % own.penalty_every == 0 and not is_first_pass()
        seen = [
            self.augmented(images.detach(), inputs, name).to(inputs.images.dtype).detach().requires_grad_(is_penalized)
            for name, images in (("real", inputs.images), *self._fakes(inputs))
        ]
        joint = self(torch.cat(seen))
        real, *fakes = ([logits.chunk(len(seen))[number] for logits in joint] for number in range(len(seen)))
        loss = mean_of_scales(self._pairwise(*each) for each in zip(real, *fakes, strict=True))
        if own.pause_above is not None:
            loss = loss * (self.accuracy <= own.pause_above)
        if is_penalized:
            for weight, images, logits in zip((own.r1, *[own.r2] * len(fakes)), seen, (real, *fakes), strict=True):
                loss = loss + 0.5 * weight * own.penalty_every * _squared_gradient(logits, images)
        fake = [torch.stack(each).mean(0) for each in zip(*fakes, strict=True)]
        if own.lecam:
            loss = loss + own.lecam * self._distance_from_means(real, fakes)
        right = mean_of_scales(
            (one > 0).to(one) / 2 + torch.stack([(other < 0).to(one) / 2 for other in others]).mean(0)
            for one, *others in zip(real, *fakes, strict=True)
        )
        means = torch.stack([torch.ones_like(right), right, mean_of_scales(real), mean_of_scales(fake)]).detach()
        later_sums(self, self._add_step)(means.sum(1))
        return loss

    def metrics(self) -> Mapping[str, Tensor]:
        """Running accuracy of the discriminator, and the adaptive factor."""
        return {"accuracy": self.accuracy, **({} if self.max_ratio is None else {"ratio": self.ratio})}

    def warning(self) -> str | None:
        """Names a discriminator that has won or lost outright."""
        if self.steps < LEAST_STEPS or LOSES <= self.accuracy <= WINS:
            return None
        advice = "lower its lr, or set r1 or pause_above"
        if self.accuracy < LOSES:
            advice = "raise its lr, or lower the weight of the term"
        return f"the discriminator of adversarial classifies {float(self.accuracy):.0%} of patches correctly: {advice}"

    def augmented(self, images: Images, inputs: LossInputs, name: str) -> Images:
        """Images as the discriminator sees them."""
        return self.augmented_alike([images], inputs, name)[0]

    def augmented_alike(self, batches: Sequence[Images], inputs: LossInputs, name: str) -> Sequence[Images]:
        """Batches of images as the discriminator sees them, those at the same place with the same augmentation."""
        if not self.options.augment:
            return batches
        return augment(batches, self.options.augment, inputs.calls.noise(f"discriminator {name}"))

    def _fakes(self, inputs: LossInputs) -> Iterator[tuple[str, Images]]:
        """The images that are not real, by the name of their augmentation."""
        if self.options.fakes != "samples":
            yield RECONSTRUCTIONS, inputs.reconstruction
        if self.options.fakes != "reconstructions":
            with torch.no_grad():
                samples = inputs.calls.decode_prior().mean
            yield SAMPLES, samples

    @torch.no_grad()
    def _add_step(self, sums: Tensor) -> None:
        """Updates the other means with sums of a batch: number of images, accuracy, logits of both."""
        sums = shared_sum(sums.to(self.logits))
        accuracy, *logits = (sums[1:] / sums[0]).unbind()
        decay = torch.clamp(self.steps / (self.steps + 1), max=SHOWN_DECAY)
        self.accuracy.copy_(torch.lerp(accuracy, self.accuracy, decay))
        self.logits.copy_(torch.lerp(torch.stack(logits), self.logits, decay))
        self.steps += 1
        self.discriminator.after_step()

    def _pairwise(self, real: Tensor, *fakes: Tensor) -> Tensor:
        """Loss of logits of images and of fakes of each kind, each of which adds its part."""
        if self.options.loss == "hinge":
            return 0.5 * torch.stack([F.relu(1 - real), *(F.relu(1 + fake) for fake in fakes)]).sum(0)
        if self.options.loss == "relativistic":
            return torch.stack([F.softplus(fake - real) for fake in fakes]).sum(0)
        return torch.stack([F.softplus(-real), *(F.softplus(fake) for fake in fakes)]).sum(0)

    def _distance_from_means(self, real: Sequence[Tensor], fakes: Sequence[Sequence[Tensor]]) -> PerImage:
        """LeCAM regularization: squared distance of logits from the mean of the others."""
        mean_real, mean_fake = self.logits.unbind()
        distance = mean_of_scales((own - mean_fake).square() for own in real)
        for fake in fakes:
            distance = distance + mean_of_scales((mean_real - own).square() for own in fake)
        return distance


def mean_of_scales(scales: Iterable[Tensor]) -> PerImage:
    """Mean over locations, then over scales, of (batch, location) each."""
    return torch.stack([own.mean(1) for own in scales]).mean(0)


def _squared_gradient(logits: Iterable[Tensor], images: Images) -> PerImage:
    """Squared norm of the gradient of the mean logit of each image, with a graph for the weights."""
    (gradient,) = torch.autograd.grad(mean_of_scales(logits).sum(), images, create_graph=True)
    return gradient.flatten(1).square().sum(1)


@contextlib.contextmanager
def as_constant(critic: nn.Module) -> Iterator[None]:
    """A context in which a critic is not trained and initializes nothing."""
    trained = [parameter for parameter in critic.parameters() if parameter.requires_grad]
    mode = critic.training
    critic.eval().requires_grad_(False)
    try:
        yield
    finally:
        critic.train(mode)
        for parameter in trained:
            parameter.requires_grad_(True)
