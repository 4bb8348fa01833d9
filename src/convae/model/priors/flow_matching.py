"""Flow matching on latents: an ordinary differential equation from noise to latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from convae.core.arguments import NonNegative, NonNegativeFloat, Positive
from convae.core.device import copy_to_device
from convae.core.errors import ConfigError
from convae.core.noise import Generators, named_noise, normal_like
from convae.core.posterior import LOG_TWO_PI
from convae.core.precision import at_least_float32
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.mode import evaluation_mode
from convae.model.priors._labels import class_indices
from convae.model.priors._velocity import VelocityNet
from convae.model.priors.base import Prior

Method = Literal["heun", "euler"]
LARGEST_EXACT = 32
"""Latent values up to which the divergence of the velocity is exact; beyond, it is estimated."""
LEAST_STD = 1e-6
"""Least standard deviation by which latents are divided."""


class FlowMatching(Prior):
    """Flow matching, or rectified flow, on latents (Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022).

    A network learns the velocity x₁ − x₀ on straight lines from noise x₀ ~ N(0, I) to latents x₁, which are divided by
    the standard deviation of the training latents in each channel. Samples follow the velocity from noise. With
    classes, the label is left out for a fraction of the training images, as for `transformer`.

    `log_prob` integrates the divergence along the way back to noise: exactly up to 32 latent values, otherwise by an
    unbiased estimate of its trace with one random vector (Grathwohl et al. 2018, arXiv:1810.01367). It has no gradient.

    Args:
        bottleneck: of the model, with a continuous latent: a vector or a map.
        width: number of channels of the network.
        blocks: number of residual blocks.
        classes: number of classes; `convae prior` takes that of the labels; 0 for none.
        class_dropout: fraction of the training images whose label is left out.
        steps: steps of the integration, for samples and densities.
        guidance: of samples with a label, unless they are drawn with another; see `sample`.

    Raises:
        ConfigError: the latents are codes.
    """

    is_fitted_after: ClassVar = True
    loss_name: ClassVar = "velocity_error"
    loss_unit: ClassVar = "squared standard deviations"
    example: ClassVar = {"width": 8, "blocks": 1, "classes": 3, "steps": 4}
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        bottleneck: Bottleneck,
        *,
        width: Positive = 64,
        blocks: Positive = 4,
        classes: NonNegative = 0,
        class_dropout: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        steps: Positive = 20,
        guidance: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(bottleneck)
        if bottleneck.is_discrete:
            raise ConfigError("flow matching needs a continuous latent. Use the prior transformer for codes")
        self.classes, self.class_dropout, self.steps, self.guidance = classes, class_dropout, steps, guidance
        self.net = VelocityNet(self.latent_shape, width, blocks, classes)
        channels = (self.latent_shape[0], *(1,) * (len(self.latent_shape) - 1))
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.reset()

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the network, whose velocity is 0 at first."""
        self.net.reset(generator)
        self.shift.zero_()
        self.scale.fill_(1)

    @torch.no_grad()
    def prepare(self, mean: Tensor, std: Tensor) -> None:
        """Takes mean and standard deviation of each channel from the posteriors of the training images."""
        others = [axis for axis in range(mean.ndim) if axis != 1]
        average = mean.double().mean(others)
        variance = mean.double().var(others, unbiased=False) + std.double().square().mean(others)
        self.shift.copy_(average.view_as(self.shift))
        self.scale.copy_(variance.sqrt().clamp_min(LEAST_STD).view_as(self.scale))

    def loss(self, values: Tensor, labels: Tensor | None = None, noise: Generators | None = None) -> PerImage:
        """Squared error of the velocity at a random time, mean over the latent values, on normalized latents."""
        chosen = class_indices(labels, len(values), self.classes, values.device)
        uniform = torch.special.ndtr(normal_like(self.like.new_empty(len(values), 2), named_noise(noise, "time")))
        uniform = copy_to_device(uniform, values.device)
        if self.training:
            chosen = torch.where(uniform[:, 1] < self.class_dropout, self.classes, chosen)
        end = (values - self.shift) / self.scale
        start = normal_like(end, named_noise(noise, "start"))
        time = uniform[:, 0].view(-1, *(1,) * (end.ndim - 1))
        velocity: Tensor = self.net(torch.lerp(start, end, time), uniform[:, 0], chosen)
        return (velocity.float() - (end - start)).square().flatten(1).mean(1)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
        *,
        steps: Positive | None = None,
        method: Method = "heun",
        guidance: NonNegativeFloat | None = None,
    ) -> Latents:
        """Latents, (count, *latent), that follow the velocity from noise.

        Args:
            count: number of samples.
            noise: one generator, or one for each sample; torch's default generator without it.
            labels: (count,) class numbers; any class where one is -1, or without labels.
            temperature: standard deviation of the noise.
            steps: steps of the integration; by default those of the prior.
            method: `heun`, of second order with two passes through the network a step, or `euler`, with one.
            guidance: factor on the difference of the velocities with and without the label (Ho & Salimans 2022); 1 for
                none; by default that of the prior.
        """
        factor = self.guidance if guidance is None else guidance
        chosen = class_indices(labels, count, self.classes, self.like.device)
        x = temperature * normal_like(self.like.new_empty(count, *self.latent_shape), noise)

        def velocity(x: Tensor, time: float) -> Tensor:
            own = self.velocity(x, time, chosen)
            if factor == 1 or not self.classes:
                return own
            without = self.velocity(x, time, torch.full_like(chosen, self.classes))
            guided: Tensor = without + factor * (own - without)
            return guided

        with evaluation_mode(self):
            x = integrate(velocity, x, 0.0, 1.0, steps or self.steps, method)
        return x * self.scale + self.shift

    def velocity(self, x: Tensor, time: float, classes: Tensor) -> Tensor:
        """Velocity of normalized latents, (batch, *latent), at a time from 0 (noise) to 1, given class indices."""
        found: Tensor = self.net(x, x.new_full((x.shape[0],), time), classes)
        return found

    def log_prob(self, z: Latents, labels: Tensor | None = None) -> PerImage:
        """Log p(z), nats, of any class without labels; without gradients."""
        dtype = self.scale.dtype
        x = (z.detach().to(dtype) - self.shift) / self.scale
        size = math.prod(self.latent_shape)
        chosen = class_indices(labels, len(z), self.classes, z.device)
        probes = self._probes(x)

        def derivative(state: Tensor, time: float) -> Tensor:
            with torch.enable_grad():
                x = state[:, :size].reshape(-1, *self.latent_shape).detach().requires_grad_(True)
                velocity = self.velocity(x, time, chosen)
                products = [torch.autograd.grad(velocity, x, probe, retain_graph=True)[0] * probe for probe in probes]
            divergence = sum((each.flatten(1).sum(1) for each in products), torch.zeros_like(state[:, 0]))
            return torch.cat([velocity.detach().flatten(1), divergence[:, None]], 1)

        with torch.no_grad(), evaluation_mode(self):
            state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
            state = integrate(derivative, state, 1.0, 0.0, self.steps, "heun")
        start, gained = state[:, :size], state[:, size]
        scales = self.scale.log().sum() * (size // self.latent_shape[0])
        found = gained - 0.5 * (start.square() + LOG_TWO_PI).sum(1) - scales
        return found.to(at_least_float32(z).dtype)

    def _probes(self, x: Tensor) -> list[Tensor]:
        """Vectors v whose sum of v · Jv is the trace of a matrix J, or in the mean over them."""
        size = math.prod(self.latent_shape)
        if size <= LARGEST_EXACT:
            return [row.view(1, *self.latent_shape).expand_as(x) for row in torch.eye(size, device=x.device)]
        # The same signs at every call, so that densities can be compared.
        signs = torch.randint(0, 2, self.latent_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return [signs.to(x)[None].expand_as(x)]


def integrate(
    derivative: Callable[[Tensor, float], Tensor], x: Tensor, begin: float, end: float, steps: int, method: Method
) -> Tensor:
    """Integrates dx/dt in equal steps by Euler's or Heun's method.

    Args:
        derivative: of (x, t).
        x: the value at `begin`.
        begin: first time.
        end: last time.
        steps: number of steps.
        method: `euler` or `heun`.
    """
    size = (end - begin) / steps
    for step in range(steps):
        time = begin + step * size
        slope = derivative(x, time)
        if method == "heun":
            slope = 0.5 * (slope + derivative(x + size * slope, time + size))
        x = x + size * slope
    return x
