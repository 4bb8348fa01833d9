"""Flow interface: an invertible map between noise and latents with its log-determinant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Named
from convae.core.entries import Entry, build_entry
from convae.core.precision import at_least_float32, full_precision
from convae.core.types import Latents, PerImage, Shape
from convae.model.flows import FLOWS

MAX_LOG_SCALE = 2.0
"""Bound of the log-scale of one affine step: a step multiplies a value by e⁻² to e²."""
INIT_SCALE = 0.01
"""Factor on the initial weights of the last layer of a conditioner, so that a flow starts close to the identity."""


class FlowStep(nn.Module):
    """One invertible step of a flow; both directions return the log-determinant of their Jacobian, nats."""

    def forward(self, u: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """From the noise towards the latents."""
        raise NotImplementedError

    def inverse(self, z: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """From the latents towards the noise."""
        raise NotImplementedError

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters close to the identity, with a CPU generator."""
        raise NotImplementedError


class Flow(nn.Module):
    """Normalizing flow: an invertible map z = f(u) from noise u to latents z (Rezende & Mohamed 2015).

    The constructor takes the shape of the latents, the shape of the features that the map depends on, or None, and its
    configuration as keyword-only arguments; it makes `steps` and initializes them, close to the identity. It is
    computed in float32 or wider.

    Args:
        shape: of a latent, without the batch.
        features: shape of the encoder's features, without the batch, in the posterior; None in a prior.

    Attributes:
        has_parallel_inverse: whether `inverse` takes one pass, as a prior needs; otherwise it finds one value after
            the other.
        steps: the steps, in the order of `forward`.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    has_parallel_inverse: ClassVar[bool] = True
    steps: nn.ModuleList

    def __init__(self, shape: Shape, features: Shape | None = None) -> None:
        super().__init__()
        self.latent_shape = shape
        self.feature_shape = features

    def forward(self, u: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Latents of noise, (batch, *latent), and log |det ∂z/∂u|, (batch,), nats.

        Args:
            u: the noise.
            features: (batch, *features), for a flow that depends on them.
        """
        return self._run(list(self.steps), at_least_float32(u), features, inverse=False)

    def inverse(self, z: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Noise of latents, (batch, *latent), and log |det ∂u/∂z|, (batch,), nats.

        Args:
            z: the latents.
            features: (batch, *features), for a flow that depends on them.
        """
        return self._run(list(self.steps)[::-1], at_least_float32(z), features, inverse=True)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters and buffers, with a CPU generator."""
        for step in self.steps:
            assert isinstance(step, FlowStep)
            step.reset(generator)

    def _run(
        self, steps: list[nn.Module], x: Latents, features: Tensor | None, *, inverse: bool
    ) -> tuple[Latents, PerImage]:
        total = x.new_zeros(x.shape[0])
        with full_precision(x.device):
            known = None if features is None else features.to(x.dtype)
            for step in steps:
                assert isinstance(step, FlowStep)
                x, log_det = step.inverse(x, known) if inverse else step(x, known)
                total = total + log_det
        return x, total


class Affine(nn.Module):
    """A linear layer or a convolution that computes in the type of its input; its sizes do not change.

    Args:
        rows: output channels.
        columns: input channels.
        kernel: sizes of the kernel; empty for vectors.
    """

    def __init__(self, rows: int, columns: int, kernel: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns, *kernel))
        self.bias = nn.Parameter(torch.empty(rows))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, column, *sizes) to (batch, row, *sizes); `mask` multiplies the weight."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        weight = weight if mask is None else weight * mask
        if weight.ndim == 2:
            return F.linear(x, weight, bias)
        convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.ndim]
        return convolve(x, weight, bias, padding=tuple(size // 2 for size in weight.shape[2:]))

    @torch.no_grad()
    def reset(self, scale: float, generator: torch.Generator | None = None) -> None:
        """Normal weights of this gain, and biases of 0."""
        fan_in = max(1, self.weight[0].numel())
        self.weight.copy_(torch.randn(self.weight.shape, generator=generator) * (scale / math.sqrt(fan_in)))
        self.bias.zero_()


def bounded_log_scale(raw: Tensor) -> Tensor:
    """A log-scale in (−2, 2) that is `raw` near 0."""
    return MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)


def build_flow(written: Named, shape: Shape, features: Shape | None = None) -> Flow:
    """Builds a flow from its name and arguments, for latents of a shape.

    Args:
        written: its name, or a mapping of the name to its arguments.
        shape: of a latent, without the batch.
        features: shape of the features that it depends on; None without.

    Raises:
        ConfigError: there is no such flow, or its arguments are wrong.
        ShapeError: it does not take latents of this shape.
    """
    flow: Flow = build_entry(FLOWS, written, shape, features)
    return flow


FlowEntry = Annotated[Named, AfterValidator(Entry(FLOWS))]
"""The type of an argument that is itself a flow: its name, or a mapping of the name to its arguments."""


class ConditionedStep(FlowStep):
    """A step by a network with two hidden layers.

    Attributes:
        first: of the values.
        second: of the first hidden layer.
        last: shift and log-scale.
        features: of the features that the step depends on, added to the first; None without.
    """

    first: Affine
    second: Affine
    last: Affine
    features: Affine | None

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Close to the identity."""
        self.first.reset(1.4, generator)
        self.second.reset(1.4, generator)
        self.last.reset(INIT_SCALE, generator)
        if self.features is not None:
            self.features.reset(1.0, generator)
