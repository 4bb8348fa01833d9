"""Gaussian bottleneck."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.context import Context
from convae.core.device import is_on_meta
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.posterior import MIN_LOGVAR, GaussianPosterior
from convae.core.precision import at_least_float32, with_gradient_of
from convae.core.types import Shape
from convae.model.bottlenecks._head import HeadBottleneck
from convae.model.flows.base import FlowEntry, build_flow
from convae.model.posteriors.flow import FlowPosterior
from convae.model.posteriors.full_gaussian import FullGaussianPosterior

MAX_LOGVAR = 40.0
"""Largest allowed bound of the log-variance: the variance, its inverse and their squares fit float32. Published weights
were trained without a bound; those of torch-vae reach 22 on random noise."""
LOGVAR_SCALE = 0.1
"""Factor on the initial log-variance weights of a head, so that posteriors start close to unit variance."""
MAX_FULL = 512
"""Largest latent with a full covariance, whose head has rows for each pair of values."""


class Gaussian(HeadBottleneck):
    """Gaussian posterior, diagonal by default (Kingma & Welling 2013, arXiv:1312.6114).

    The head, a linear layer for vectors and a 1×1 convolution for maps, maps features to mean and log-variance.
    Without a head, the first half of the channels is the mean and the second half the log-variance.

    With `covariance: full` the values of a latent vector are correlated: further rows of the head are the entries of
    the Cholesky factor below its diagonal, in units of the diagonal. With `flow` the latent of the Gaussian goes
    through a normalizing flow that depends on the features; the KL divergence is then estimated at the drawn latents.

    Args:
        shape: (channels, *sizes) of the encoder's features.
        latent: latent dimension, or latent channels of a map; by default, without a head, half of the feature
            channels.
        head: whether to map features to the posterior with a linear layer.
        max_logvar: upper bound of the log-variance. Fitted posteriors are narrower than the prior (log-variance 0), but
            without a bound one unusual image can have a KL divergence of e⁴⁰ nats and dominate a mean.
        covariance: whether the values of a latent vector are independent or have a full covariance.
        flow: a normalizing flow after the Gaussian, such as `iaf` or `{planar: {steps: 4}}`; none by default.
    """

    example: ClassVar = {"latent": 3}

    def __init__(
        self,
        shape: Shape,
        *,
        latent: Positive | None = None,
        head: bool = True,
        max_logvar: Annotated[float, Field(ge=0, le=MAX_LOGVAR)] = 5.0,
        covariance: Literal["diagonal", "full"] = "diagonal",
        flow: FlowEntry | None = None,
    ) -> None:
        super().__init__()
        self.max_logvar = max_logvar
        if latent is None:
            if head or covariance == "full":
                raise ConfigError("'latent' is missing. Give the latent dimension")
            latent = max(1, shape[0] // 2)
        self.latent_shape = (latent, *shape[1:])
        self.covariance = covariance
        rows = 2 * latent
        if covariance == "full":
            if len(shape) > 1 or latent > MAX_FULL:
                raise ShapeError(
                    f"a full covariance needs a latent vector of at most {MAX_FULL} values, got "
                    f"{shape_text(self.latent_shape)}. End the encoder with flatten"
                )
            rows += latent * (latent - 1) // 2
        self._make_head(shape, rows, head, f"latent: {latent}")
        self.flow = None if flow is None else build_flow(flow, self.latent_shape, shape)
        self.is_diagonal = covariance == "diagonal" and flow is None
        self.is_mean_expected = flow is None
        if not is_on_meta():
            self.reset()

    def posterior(self, features: Tensor) -> GaussianPosterior | FullGaussianPosterior | FlowPosterior:
        """Posterior q(z | x) of features, (batch, *features), in float32 or wider."""
        own = self._gaussian(super().head_output(features))
        return own if self.flow is None else FlowPosterior(own, self.flow, features)

    def head_output(self, features: Tensor) -> Tensor:
        """Mean, log-variance and covariance of features, (batch, row, *sizes); the features where a flow sees them."""
        return super().head_output(features) if self.flow is None else features

    def from_head(self, values: Tensor, context: Context | None = None) -> Tensor:
        """The latent, (batch, *latent), of the result of `head_output`."""
        if self.flow is not None:
            return super().from_head(values, context)
        return (context or Context()).draw_latent(self.stream, self._gaussian(values))

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the head, with small weights for the log-variance, and the flow."""
        super().reset(generator)
        if self.head:
            self.weight[self.latent_shape[0] :] *= LOGVAR_SCALE
        if self.flow is not None:
            self.flow.reset(generator)

    def _gaussian(self, values: Tensor) -> GaussianPosterior | FullGaussianPosterior:
        """The Gaussian of the values of the head, (batch, row, *sizes)."""
        size = self.latent_shape[0]
        values = at_least_float32(values)
        mean, logvar, below = values[:, :size], values[:, size : 2 * size], values[:, 2 * size :]
        # Clamped values keep their gradient, so that they can return to the range.
        logvar = with_gradient_of(logvar.clamp(MIN_LOGVAR, self.max_logvar), logvar)
        if self.covariance == "diagonal":
            return GaussianPosterior(mean, logvar)
        count, device = values.shape[0], values.device
        unit = torch.eye(size, dtype=values.dtype, device=device).repeat(count, 1, 1)
        if size > 1:  # ONNX has no assignment of nothing
            rows, columns = torch.tril_indices(size, size, -1, device=device)
            unit = unit.index_put((torch.arange(count, device=device)[:, None], rows, columns), below)
        return FullGaussianPosterior(mean, torch.exp(0.5 * logvar)[..., None] * unit)
