"""Vector quantization with a learned codebook."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Fraction
from convae.core.collective import shared_sum
from convae.core.context import Context
from convae.core.device import copy_to_device
from convae.core.noise import CountedNoise, Generators, draw_integers, single_generator
from convae.core.precision import full_precision
from convae.core.slices import batch_slices
from convae.core.types import Latents
from convae.model.quantizers._estimators import Estimator, pass_gradient
from convae.model.quantizers._nearest import nearest_codes
from convae.model.quantizers.base import (
    MAX_CODES,
    CodeIndices,
    Quantizer,
    Vectors,
    require_known_channels,
    squared_distance,
    to_grid,
    to_vectors,
    vectors_per_image,
)

_SMOOTHING = 1e-5
"""Laplace smoothing of cluster sizes, in vectors; avoids division by zero."""
_K_MEANS_STEPS = 10


class VQ(Quantizer):
    """Vector quantization with a codebook (van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937).

    Replaces each vector by the nearest code vector. The objective must contain the term `commitment`, and with
    `update: gradient` also `codebook`.

    At the end of each training step, dead codes, to which few vectors are assigned, are reset to random vectors of the
    batch (Dhariwal et al. 2020, arXiv:2005.00341). The first training step initializes all codes from the batch; with
    more codes than vectors in a batch, this takes several steps.

    Args:
        channels: number of channels of a vector.
        codes: codebook size.
        update: how codes are trained: by exponential moving averages of the vectors assigned to them (`ema`), or by the
            `gradient` of the term `codebook`.
        decay: decay of the moving averages, per step.
        dead_code_threshold: usage below which a code is dead, as a fraction of uniform usage; 0 disables resets.
        distance: `euclidean`, or `cosine` for vectors and codes of norm 1 (Yu et al. 2021, arXiv:2110.04627).
        init: initialization by the first training step: random `vectors` of the batch, or their `k-means` centroids.
        estimator: gradient estimator: `straight-through`, or the `rotation` trick.
    """

    example: ClassVar = {"codes": 4}
    codebook: Tensor
    cluster_size: Tensor
    embed_sum: Tensor

    def __init__(
        self,
        channels: int | None,
        *,
        codes: Annotated[int, Field(ge=2, le=MAX_CODES)] = 512,
        update: Literal["ema", "gradient"] = "ema",
        decay: Annotated[float, Field(gt=0, lt=1)] = 0.99,
        dead_code_threshold: Fraction = 0.03,
        distance: Literal["euclidean", "cosine"] = "euclidean",
        init: Literal["vectors", "k-means"] = "vectors",
        estimator: Estimator = "straight-through",
    ) -> None:
        channels = require_known_channels(channels)
        super().__init__(channels)
        self.codebook_sizes = (codes,)
        self.update, self.decay, self.dead_code_threshold = update, decay, dead_code_threshold
        self.distance, self.init, self.estimator = distance, init, estimator
        self._is_initialized = self._is_initialized_in_step = False
        self.required_terms = ("commitment", "codebook") if update == "gradient" else ("commitment",)
        self.self_updated_parameters = ("codebook",) if update == "gradient" else ()
        code_vectors = torch.empty(codes, channels)
        if update == "gradient":
            self.codebook = nn.Parameter(code_vectors)
        else:
            self.register_buffer("codebook", code_vectors)
            self.register_buffer("embed_sum", torch.empty(codes, channels))
        self.register_buffer("cluster_size", torch.empty(codes))
        self.reset()

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors, (batch, channel, *grid), of code indices, (batch, *grid)."""
        return self._unit(F.embedding(codes, self.codebook)).movedim(-1, 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each vector, (batch, *grid)."""
        vectors, codebook = self._unit(to_vectors(values.detach())), self._unit(self.codebook.detach())
        return to_grid(nearest_codes(vectors, codebook), values)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors and codes; reports the terms, squared distances in squared latent units.

        In training, the codebook is updated after the pass, or after the last slice of a batch.
        """
        values = self._unit(values, 1)
        vectors, noise, per_image = to_vectors(values.detach()), context.noise_for(stream), vectors_per_image(values)
        is_trained = self.training and not values.is_meta
        with batch_slices() as slices:
            if is_trained and not self.is_initialized:
                slices.start(self, vectors, partial(self._initialize, noise, per_image))
            codes = self.nearest(values)
            nearest = self.embed_codes(codes).to(values.dtype)
            if is_trained:
                slices.add((self, stream), self._statistics(vectors, codes.flatten(), noise, per_image), self._update)
        context.report_term("commitment", squared_distance(values, nearest.detach()), stream)
        if self.update == "gradient":
            context.report_term("codebook", squared_distance(values.detach(), nearest), stream)
        return pass_gradient(nearest.detach(), values, self.estimator), codes

    @torch.no_grad()
    def rescale_usage(self, vectors: int) -> None:
        """Rescales the moving averages to a number of vectors per step, so that codes do not become dead by it."""
        total = self.cluster_size.sum()
        scale = torch.where(total > 0, vectors / total, 1.0)
        self.cluster_size.mul_(scale)
        if self.update == "ema":
            self.embed_sum.mul_(scale)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes codes from N(0, 1), all unused."""
        self.codebook.copy_(self._unit(torch.randn(self.codebook.shape, generator=generator)))
        self.cluster_size.zero_()
        self._is_initialized = False
        if self.update == "ema":
            self.embed_sum.zero_()

    def _unit(self, vectors: Tensor, dim: int = -1) -> Tensor:
        """Normalizes vectors for the cosine distance."""
        return F.normalize(vectors, dim=dim) if self.distance == "cosine" else vectors

    @property
    def is_initialized(self) -> bool:
        """Whether a training step has initialized the codes; until then, a call synchronizes with the device."""
        if self._is_initialized:
            return True
        is_initialized = bool(self.cluster_size.any())
        # The initializing step may still be skipped, which restores the codebook.
        self._is_initialized = is_initialized and not self._is_initialized_in_step
        return is_initialized

    @torch.no_grad()
    def _initialize(self, noise: Generators | None, per_image: int, vectors: Vectors) -> None:
        """Initializes the codes from the vectors of the global batch, of which these are on this rank."""
        if not self.dead_code_threshold and self.init == "vectors":
            return
        self._is_initialized_in_step = True
        chosen, is_here = self._candidates(vectors, noise, per_image)
        # A single all-reduce.
        rest = [is_here, ~vectors.isfinite().all()[None], vectors.new_full((1,), len(vectors))]
        message = shared_sum(torch.cat([chosen.flatten(), *(part.to(vectors.dtype) for part in rest)]))
        flat, ranks, faults, number = torch.split(message, [chosen.numel(), len(is_here), 1, 1])
        means, has_vector = flat.view_as(chosen).to(self.codebook.dtype), ranks > 0
        counts = (number / len(means)).to(means.dtype).expand(len(means))
        if self.init == "k-means":
            # With more codes than vectors, some vectors initialize several codes.
            order = torch.arange(len(means), device=means.device) % has_vector.sum().clamp_min(1)
            means, counts = self._k_means(vectors, means[has_vector.logical_not().argsort(stable=True)[order]])
            has_vector = torch.ones_like(has_vector)
        self._set_codes(has_vector & (faults == 0), means, counts)

    def _set_codes(self, is_set: Tensor, codes: Tensor, sizes: Tensor) -> None:
        """Sets code vectors and cluster sizes where `is_set`, (code,), is True."""
        self.codebook.copy_(torch.where(is_set[:, None], codes, self.codebook))
        self.cluster_size.copy_(torch.where(is_set, sizes, self.cluster_size))
        if self.update == "ema":
            self.embed_sum.copy_(torch.where(is_set[:, None], codes * sizes[:, None], self.embed_sum))

    def _k_means(self, vectors: Vectors, means: Tensor) -> tuple[Tensor, Tensor]:
        """K-means centroids of the vectors of all ranks, (code, channel), and the number of vectors of each."""
        counts = means.new_zeros(len(means), 1)
        for _ in range(_K_MEANS_STEPS):
            codes = nearest_codes(vectors, means)
            local = torch.cat([self._sum(vectors, codes), self._count(codes)[:, None]], 1)
            sums, counts = shared_sum(local).split([means.shape[1], 1], 1)
            means = torch.where(counts > 0, self._unit(sums / counts.clamp_min(1)), means)
        return means, counts[:, 0]

    def _candidates(
        self, vectors: Vectors, noise: Generators | None, per_image: int
    ) -> tuple[Float[Tensor, "code channel"], Tensor]:
        """A random vector of the global batch for each code, or zeros if it is not on this rank, and whether it is.

        The choice does not depend on how the batch is split over ranks and slices.
        """
        generator, first, total = single_generator(noise, "codes"), 0, len(vectors)
        if isinstance(noise, CountedNoise):
            first, total = noise.start * per_image, noise.global_size * per_image
        # With more codes than vectors, some codes get none, as they would be duplicates.
        below = max(total, len(self.cluster_size))
        drawn = copy_to_device(draw_integers(below, self.cluster_size.shape, generator) - first, vectors.device)
        is_here = (drawn >= 0) & (drawn < len(vectors))
        return torch.where(is_here[:, None], vectors[drawn.clamp(0, len(vectors) - 1)], 0), is_here

    @torch.no_grad()
    def _statistics(self, vectors: Vectors, codes: Tensor, noise: Generators | None, per_image: int) -> Tensor:
        """Additive statistics of a slice of the batch, as one vector; see `_update`."""
        counts = self._count(codes)
        parts = [counts, counts.sum()[None], ~vectors.isfinite().all()[None]]
        if self.update == "ema":
            parts.append(self._sum(vectors, codes).flatten())
        if self.dead_code_threshold:
            chosen, is_here = self._candidates(vectors, noise, per_image)
            parts += [chosen.flatten(), is_here]
        return torch.cat([part.to(counts.dtype) for part in parts])

    @torch.no_grad()
    def _update(self, statistics: Tensor) -> None:
        """Updates the moving averages and, with `update: ema`, the codes; resets dead codes.

        Dead codes become random vectors of the batch, with the cluster size of uniform usage. If any vector is not
        finite, no code is reset.
        """
        self._is_initialized_in_step = False
        shape, size, codes = self.codebook.shape, self.codebook.numel(), len(self.cluster_size)
        lengths = [codes, 1, 1]
        lengths += [size] if self.update == "ema" else []
        lengths += [size, codes] if self.dead_code_threshold else []
        counts, number, faults, *rest = torch.split(shared_sum(statistics), lengths)
        with full_precision(statistics.device):
            self.cluster_size.lerp_(counts, 1 - self.decay)
            if self.update == "ema":
                self.embed_sum.lerp_(rest[0].view(shape), 1 - self.decay)
                total = self.cluster_size.sum()
                smoothed = (self.cluster_size + _SMOOTHING) / (total + codes * _SMOOTHING) * total
                self.codebook.copy_(self._unit(self.embed_sum / smoothed[:, None]))
        if self.dead_code_threshold:
            chosen, ranks = rest[-2].view(shape), rest[-1]
            uniform = (number / codes).expand(codes)
            is_dead = self.cluster_size < self.dead_code_threshold * uniform
            self._set_codes(is_dead & (ranks > 0) & (faults == 0), chosen, uniform)

    def _count(self, codes: Tensor) -> Tensor:
        """Number of vectors of each code on this rank, (code,)."""
        return torch.zeros_like(self.cluster_size).index_add_(0, codes, self.cluster_size.new_ones(len(codes)))

    def _sum(self, vectors: Vectors, codes: Tensor) -> Tensor:
        """Sum of the vectors of each code on this rank, (code, channel)."""
        zeros = torch.zeros_like(self.codebook, requires_grad=False)
        return zeros.index_add_(0, codes, vectors.to(zeros.dtype))

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._is_initialized = False
