"""Vector quantization bottleneck of the VQ-VAE."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Fraction, Named, Positive
from convae.core.collective import shared_sum
from convae.core.context import Context
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.noise import CountedNoise, Generators, draw_integers, single_generator
from convae.core.posterior import CodePosterior
from convae.core.precision import at_least_float32, full_precision
from convae.core.types import Latents, Shape
from convae.model.bottlenecks.base import Bottleneck, project

Vectors = Float[Tensor, "vector channel"]
_SMOOTHING = 1e-5
"""Laplace smoothing of the cluster sizes, in vectors: avoids division by zero."""


class VQ(Bottleneck):
    """Vector quantization bottleneck (van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937).

    Replaces each position of a latent map, or a latent vector as a whole, by the nearest code of a codebook, with a
    straight-through gradient. Objectives need the term `commitment` instead of `kl`, which is constant here; and with
    `update: gradient` the term `codebook`.

    Dead codes, which few features are assigned to, are reset to random features of the batch (Dhariwal et al. 2020,
    arXiv:2005.00341). The first training step initializes the whole codebook in this way.

    The default prior is uniform over codes at each position, so its samples have no global structure; that needs an
    autoregressive prior over codes (`convae encode` writes them).

    Args:
        shape: (channels, *sizes) of the encoder's features.
        codes: codebook size.
        latent: dimension of a code; by default, without a head, the feature channels.
        head: whether to map features to the codes' dimension with a linear layer.
        update: how codes are trained: by the exponential moving average of their features (`ema`), or by the gradient
            of the term `codebook`.
        decay: decay of the moving averages, per step.
        dead_code_threshold: usage below which a code is dead, as a fraction of uniform usage; 0 disables resets.
    """

    example: ClassVar = {"codes": 4, "latent": 3}
    default_prior: ClassVar[Named] = "uniform-codes"
    is_discrete = True
    codebook: Tensor
    cluster_size: Tensor
    embed_sum: Tensor

    def __init__(
        self,
        shape: Shape,
        *,
        codes: Annotated[int, Field(ge=2, le=1 << 20)] = 512,
        latent: Positive | None = None,
        head: bool = True,
        update: Literal["ema", "gradient"] = "ema",
        decay: Annotated[float, Field(gt=0, lt=1)] = 0.99,
        dead_code_threshold: Fraction = 0.03,
    ) -> None:
        super().__init__()
        if latent is None and head:
            raise ConfigError("'latent' is missing. Give the dimension of a code")
        channels = latent or shape[0]
        self.latent_shape = (channels, *shape[1:])
        self.update, self.decay, self.dead_code_threshold = update, decay, dead_code_threshold
        self.required_terms = ("commitment", "codebook") if update == "gradient" else ("commitment",)
        self.self_updated_parameters = ("codebook",) if update == "gradient" else ()
        if head:
            self.weight = nn.Parameter(torch.empty(channels, shape[0]))
            self.bias = nn.Parameter(torch.empty(channels))
        elif shape[0] != channels:
            raise ShapeError(
                f"expected {channels} feature channels for codes of {channels} without a head, got {shape_text(shape)}"
            )
        self.head = head
        entries = torch.empty(codes, channels)
        if update == "gradient":
            self.codebook = nn.Parameter(entries)
        else:
            self.register_buffer("codebook", entries)
            self.register_buffer("embed_sum", torch.empty(codes, channels))
        self.register_buffer("cluster_size", torch.empty(codes))
        self.reset()

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return len(self.codebook)

    def embed_codes(self, codes: Int64[Tensor, "batch *grid"]) -> Latents:  # noqa: UP037
        """Code indices, (batch, *grid), to code vectors, (batch, channel, *grid)."""
        return self._entries(codes)

    def posterior(self, features: Tensor) -> CodePosterior:
        """The nearest codes of features, (batch, *features), in float32 or wider."""
        return self._nearest(self._values(features))

    def forward(self, x: Tensor, context: Context | None = None) -> Latents:
        """Features to code vectors; reports the squared distances to them (squared latent units per image) as terms.

        In training the codebook is updated: dead codes before the pass and, with `ema`, all others after it.
        """
        context = context or Context()
        values = self._values(x)
        vectors = _vectors(values.detach())
        if self.training and self.dead_code_threshold:
            self._reset_dead_codes(vectors, context.noise_for(self.stream))
        found = self._nearest(values)
        entries = found.mean.detach()
        context.report_term("commitment", (values - entries).square().flatten(1).sum(1))
        if self.update == "gradient":
            context.report_term("codebook", (values.detach() - found.mean).square().flatten(1).sum(1))
        if self.training:
            self._update_statistics(vectors, found.codes)
        # Straight through: the code vectors, with the gradient of the features.
        latent = entries + (values - values.detach())
        context.report_latent(self.stream, latent, CodePosterior(latent, found.codes, found.codebook_size))
        return latent

    def quantize(self, z: Latents) -> Latents:
        """The nearest code vector at each position of the latents."""
        return self._nearest(z).mean

    @torch.no_grad()
    def expect(self, batch: int) -> None:
        """Rescales the cluster sizes of a trained codebook to a new global batch size, so that no code is reset for it.

        The codes do not change.
        """
        total = self.cluster_size.sum()
        scale = torch.where(total > 0, batch * math.prod(self.latent_shape[1:]) / total, 1.0)
        self.cluster_size.mul_(scale)
        if self.update == "ema":
            self.embed_sum.mul_(scale)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes codes from a standard normal distribution, all unused, and the head."""
        self.codebook.copy_(torch.randn(self.codebook.shape, generator=generator))
        self.cluster_size.zero_()
        if self.update == "ema":
            self.embed_sum.zero_()
        if self.head:
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(self.weight.shape[1]))
            self.bias.zero_()

    def _values(self, features: Tensor) -> Latents:
        """Features in the codes' space, (batch, channel, *grid)."""
        return at_least_float32(project(features, self.weight, self.bias) if self.head else features)

    def _entries(self, codes: Tensor) -> Latents:
        """Code indices, (batch, *grid), to code vectors, (batch, channel, *grid)."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def _nearest(self, values: Latents) -> CodePosterior:
        """The nearest code at each position."""
        with torch.no_grad(), full_precision(values.device):
            vectors, entries = _vectors(values), self.codebook.to(values.dtype)
            # |v|² is the same for all codes.
            distances = entries.square().sum(1) - 2 * vectors @ entries.T
            codes = distances.argmin(1).view(values.shape[0], *values.shape[2:])
        return CodePosterior(self._entries(codes).to(values.dtype), codes, len(self.codebook))

    @torch.no_grad()
    def _reset_dead_codes(self, vectors: Vectors, generator: Generators | None) -> None:
        """Resets dead codes to features of the batch, with the cluster size of uniform usage."""
        chosen, there, number = self._candidates(vectors, generator)
        even = number.to(self.cluster_size.dtype) / len(self.cluster_size)
        dead = (self.cluster_size < self.dead_code_threshold * even) & there
        chosen = chosen.to(self.codebook.dtype)
        self.codebook.copy_(torch.where(dead[:, None], chosen, self.codebook))
        if self.update == "ema":
            self.embed_sum.copy_(torch.where(dead[:, None], even * chosen, self.embed_sum))
        self.cluster_size.copy_(torch.where(dead, even, self.cluster_size))

    def _candidates(
        self, vectors: Vectors, generator: Generators | None
    ) -> tuple[Float[Tensor, "code channel"], Tensor, Tensor]:
        """A random feature of the global batch for each code, whether it is available, and the number of features.

        The choice is independent of how the batch is split over ranks and accumulation steps. With accumulation, the
        feature of a code may be in another slice. No feature is available if any is not finite.
        """
        drawn_by, first, whole = single_generator(generator, "codes"), 0, len(vectors)
        if isinstance(generator, CountedNoise):
            places = math.prod(self.latent_shape[1:])
            first, whole = generator.start * places, generator.global_size * places
        drawn = (draw_integers(whole, self.cluster_size.shape, drawn_by) - first).to(vectors.device)
        here = (drawn >= 0) & (drawn < len(vectors))
        chosen = torch.where(here[:, None], vectors[drawn.clamp(0, len(vectors) - 1)], 0)
        # One all-reduce for everything.
        rest = [here, ~vectors.isfinite().all()[None], vectors.new_full((1,), len(vectors))]
        message = shared_sum(torch.cat([chosen.flatten(), *(part.to(vectors.dtype) for part in rest)]))
        features, there, faults, number = torch.split(message, [chosen.numel(), len(here), 1, 1])
        return features.view_as(chosen), (there > 0) & (faults == 0), number

    @torch.no_grad()
    def _update_statistics(self, vectors: Vectors, codes: Tensor) -> None:
        """Updates the moving averages of cluster sizes and, with `ema`, of embedding sums and codes."""
        with full_precision(vectors.device):
            numbers = codes.flatten()
            used = torch.zeros_like(self.cluster_size).index_add_(
                0, numbers, torch.ones_like(numbers, dtype=self.cluster_size.dtype)
            )
            if self.update == "gradient":
                self.cluster_size.lerp_(shared_sum(used), 1 - self.decay)
                return
            near = torch.zeros_like(self.embed_sum).index_add_(0, numbers, vectors.to(self.embed_sum.dtype))
            found = shared_sum(torch.cat([near, used[:, None]], 1))
            self.embed_sum.lerp_(found[:, :-1], 1 - self.decay)
            self.cluster_size.lerp_(found[:, -1], 1 - self.decay)
            total = self.cluster_size.sum()
            smoothed = (self.cluster_size + _SMOOTHING) / (total + len(self.cluster_size) * _SMOOTHING) * total
            self.codebook.copy_(self.embed_sum / smoothed[:, None])


def _vectors(values: Latents) -> Vectors:
    """(batch, channel, *grid) to (position, channel)."""
    return values.movedim(1, -1).flatten(0, -2)
