"""Adversarial loss of reconstructions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Named, NonNegativeFloat, Positive, PositiveFloat
from convae.core.errors import ConfigError
from convae.core.precision import at_least_float32
from convae.core.random import torch_generator
from convae.core.slices import is_first_pass, later_sums
from convae.core.types import Images, PerImage, Shape
from convae.objective.discriminators.base import DiscriminatorEntry, build_discriminator
from convae.objective.terms._augment import Augmentation, augment
from convae.objective.terms._critic import ImageCritic
from convae.objective.terms._latent_critic import Beta
from convae.objective.terms.base import UNBOUND, LossInputs, Term

Loss = Literal["hinge", "non-saturating", "relativistic"]
WINS, LOSES = 0.98, 0.52
"""Running accuracy above which a discriminator has won, and below which it has lost."""
LEAST_STEPS = 500
"""Steps of the discriminator before it is judged."""
SMALLEST_SQUARE = 1e-30


class Adversarial(Term):
    """Adversarial loss: a discriminator tells images from reconstructions, and the model is trained against it.

    As in VQGAN (Esser et al. 2021, arXiv:2012.09841), with `reconstruction` and usually `perceptual`. The
    discriminator has its own optimizer, and a step after that of the model on the same images. It is trained while the
    weight is 0 as well: give it a head start with a stage of weight 0, or a weight that rises.

    With `adaptive`, weight 1 makes the gradient as large as that of all other terms: it is multiplied by the ratio of
    their norms at the decoder's raw values, a running mean over about ten steps, at most `max_ratio`. It is 0 in the
    first step of the term. The value in the log is without this factor.

    Args:
        discriminator: the network.
        loss: `hinge`, `non-saturating` (Goodfellow et al. 2014), or `relativistic`, which compares the logits of
            an image and its reconstruction (Huang et al. 2024, arXiv:2501.05441).
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
        self.discriminator, self.loss = discriminator, loss
        self.adaptive, self.max_ratio = adaptive, max_ratio
        self.r1, self.r2, self.penalty_every, self.lecam = r1, r2, penalty_every, lecam
        self.augment, self.pause_above = augment, pause_above
        self.critic_optimizer: dict[str, Any] = {"lr": lr, "betas": betas, "weight_decay": 0.0}
        if schedule is not None:
            self.critic_optimizer["schedule"] = schedule
        self._critic: tuple[ImageCritic, ...] = ()

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Creates the discriminator."""
        if not self._critic or self._critic[0].discriminator.image_shape != image_shape:
            made = build_discriminator(self.discriminator, image_shape)
            made.reset(torch_generator(0, "discriminator"))
            self._critic = (ImageCritic(made),)

    @property
    def critic(self) -> nn.Module | None:
        """The discriminator, once the term is bound."""
        return next(iter(self._critic), None)

    def forward(self, inputs: LossInputs) -> PerImage:
        """The loss of the model for each image; without a gradient for the discriminator."""
        critic = self._bound()
        has_gradient = inputs.weight != 0 and torch.is_grad_enabled()
        with _as_constant(critic), contextlib.nullcontext() if has_gradient else torch.no_grad():
            fake = critic(self._seen(self._reconstruction(inputs, critic), inputs, "fake"))
            if self.loss == "relativistic":
                with torch.no_grad():
                    real = critic(self._seen(inputs.images, inputs, "real"))
                return _mean(F.softplus(x - y) for x, y in zip(real, fake, strict=True))
            return _mean(-y if self.loss == "hinge" else F.softplus(-y) for y in fake)

    def critic_loss(self, inputs: LossInputs) -> PerImage:
        """Loss of the discriminator with its penalties."""
        critic, step = self._bound(), inputs.moment.step
        is_penalized = bool(self.r1 or self.r2) and step % self.penalty_every == 0 and not is_first_pass()
        x, y = (
            self._seen(images.detach(), inputs, name).detach().requires_grad_(is_penalized)
            for images, name in ((inputs.images, "real"), (inputs.reconstruction, "fake"))
        )
        joint = critic(torch.cat([x, y.to(x.dtype)]))
        real, fake = ([logits.chunk(2)[number] for logits in joint] for number in range(2))
        loss = _mean(self._told_apart(own, other) for own, other in zip(real, fake, strict=True))
        if self.pause_above is not None:
            loss = loss * (critic.accuracy <= self.pause_above)
        if is_penalized:
            for weight, images, logits in ((self.r1, x, real), (self.r2, y, fake)):
                loss = loss + 0.5 * weight * self.penalty_every * _squared_gradient(logits, images)
        if self.lecam:
            alpha_real, alpha_fake = critic.logits.unbind()
            held = _mean((own - alpha_fake).square() for own in real)
            loss = loss + self.lecam * (held + _mean((alpha_real - own).square() for own in fake))
        right = _mean(((own > 0).to(own) + (other < 0).to(own)) / 2 for own, other in zip(real, fake, strict=True))
        means = torch.stack([torch.ones_like(right), right, _mean(real), _mean(fake)]).detach()
        later_sums(self, critic.add_step)(means.sum(1))
        return loss

    @property
    def ratio(self) -> Tensor:
        """The factor of `adaptive`, a scalar on the device."""
        others, own = self._bound().squares.unbind()
        return (others / own.clamp_min(SMALLEST_SQUARE)).sqrt().clamp_max(self.max_ratio)

    def critic_metrics(self) -> Mapping[str, Tensor]:
        """Running accuracy of the discriminator, and the adaptive factor."""
        return {"accuracy": self._bound().accuracy, **({"ratio": self.ratio} if self.adaptive else {})}

    def critic_warning(self) -> str | None:
        """Names a discriminator that has won or lost outright."""
        critic = self._bound()
        if critic.steps < LEAST_STEPS or LOSES <= critic.accuracy <= WINS:
            return None
        advice = "lower its lr, or set r1 or pause_above"
        if critic.accuracy < LOSES:
            advice = "raise its lr, or lower the weight of the term"
        return f"the discriminator of adversarial tells {float(critic.accuracy):.0%} of the patches right: {advice}"

    def _bound(self) -> ImageCritic:
        """The critic.

        Raises:
            ConfigError: the term is not bound.
        """
        if not self._critic:
            raise ConfigError(UNBOUND)
        return self._critic[0]

    def _told_apart(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator for logits."""
        if self.loss == "hinge":
            return 0.5 * (F.relu(1 - real) + F.relu(1 + fake))
        return F.softplus(fake - real) if self.loss == "relativistic" else F.softplus(-real) + F.softplus(fake)

    def _seen(self, images: Images, inputs: LossInputs, name: str) -> Images:
        """Images as the discriminator sees them."""
        if not self.augment:
            return images
        return augment(images, self.augment, inputs.calls.noise(f"discriminator {name}"))

    def _reconstruction(self, inputs: LossInputs, critic: ImageCritic) -> Images:
        """The mean of p(x | z); with `adaptive`, its gradient is multiplied by `ratio`, and both norms are measured."""
        raw = inputs.calls.raw
        if not (self.adaptive and inputs.weight != 0 and torch.is_grad_enabled() and raw.requires_grad):
            return inputs.reconstruction
        own, ratio = raw.view_as(raw), self.ratio
        add, kept = later_sums((self, "squares"), critic.add_squares), list[Tensor]()

        def scale(gradient: Tensor) -> Tensor:
            kept.append(gradient.detach())
            return gradient * ratio.to(gradient.dtype)

        def measure(gradient: Tensor) -> None:
            if kept:
                mine = at_least_float32(kept.pop())
                others = at_least_float32(gradient.detach()) - mine * ratio
                add(torch.stack([others.square().sum(), (mine / inputs.weight).square().sum()]))

        own.register_hook(scale)
        raw.register_hook(measure)
        return inputs.calls.likelihood(own).mean


@contextlib.contextmanager
def _as_constant(critic: nn.Module) -> Iterator[None]:
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


def _mean(scales: Any) -> PerImage:
    """Mean over locations, then over scales, of (batch, location) each."""
    return torch.stack([own.mean(1) for own in scales]).mean(0)


def _squared_gradient(logits: list[Tensor], images: Images) -> PerImage:
    """Squared norm of the gradient of the mean logit of each image, with a graph for the weights."""
    (gradient,) = torch.autograd.grad(_mean(logits).sum(), images, create_graph=True)
    return gradient.flatten(1).square().sum(1)
