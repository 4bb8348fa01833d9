"""Vector quantization with a table of code vectors."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Fraction
from convae.core.collective import shared_sum
from convae.core.context import Context
from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise, Generators, draw_integers, single_generator
from convae.core.precision import full_precision
from convae.core.types import Latents
from convae.model.quantizers._estimators import Estimator, pass_gradient
from convae.model.quantizers._nearest import nearest_codes
from convae.model.quantizers.base import (
    MAX_CODES,
    CodeIndices,
    Quantizer,
    Vectors,
    count_places,
    squared_distance,
    to_grid,
    to_vectors,
)

_SMOOTHING = 1e-5
"""Laplace smoothing of the cluster sizes, in vectors: avoids division by zero."""
_K_MEANS_STEPS = 10


class VQ(Quantizer):
    """Vector quantization with a codebook (van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937).

    Replaces each vector by the nearest code, with a straight-through gradient. Objectives need the term `commitment`,
    and with `update: gradient` the term `codebook`.

    Dead codes, which few vectors are assigned to, are reset to random vectors of the batch (Dhariwal et al. 2020,
    arXiv:2005.00341). The first training step initializes the whole codebook in this way; with more codes than vectors
    in a batch, the first few steps.

    Args:
        channels: of the vectors.
        codes: codebook size.
        update: how codes are trained: by the exponential moving average of their vectors (`ema`), or by the gradient
            of the term `codebook`.
        decay: decay of the moving averages, per step.
        dead_code_threshold: usage below which a code is dead, as a fraction of uniform usage; 0 disables resets.
        distance: `euclidean`, or `cosine` for vectors and codes of norm 1 (Yu et al. 2021, arXiv:2110.04627).
        start: what the first training step initializes the codes to: random vectors of the batch, or their `k-means`
            clusters (with accumulation, of its first slice).
        estimator: how the gradient passes: straight through, or rotated as the vector is onto its code.
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
        start: Literal["vectors", "k-means"] = "vectors",
        estimator: Estimator = "straight-through",
    ) -> None:
        if channels is None:
            raise ConfigError("'latent' is missing. Give the dimension of a code")
        super().__init__(channels)
        self.codebook_sizes = (codes,)
        self.update, self.decay, self.dead_code_threshold = update, decay, dead_code_threshold
        self.distance, self.start, self.estimator = distance, start, estimator
        self.required_terms = ("commitment", "codebook") if update == "gradient" else ("commitment",)
        self.self_updated_parameters = ("codebook",) if update == "gradient" else ()
        entries = torch.empty(codes, channels)
        if update == "gradient":
            self.codebook = nn.Parameter(entries)
        else:
            self.register_buffer("codebook", entries)
            self.register_buffer("embed_sum", torch.empty(codes, channels))
        self.register_buffer("cluster_size", torch.empty(codes))
        self.reset()

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code indices, (batch, *grid), to code vectors, (batch, channel, *grid)."""
        return self._unit(F.embedding(codes, self.codebook)).movedim(-1, 1)

    def nearest(self, values: Latents) -> CodeIndices:
        """The nearest code of each vector, (batch, *grid)."""
        vectors, codebook = self._unit(to_vectors(values.detach())), self._unit(self.codebook.detach())
        return to_grid(nearest_codes(vectors, codebook), values)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Values to code vectors and codes; reports the squared distance to them (squared latent units) as terms.

        In training the codebook is updated: dead codes before the pass and, with `ema`, all others after it.
        """
        values = self._unit(values, 1)
        vectors, noise = to_vectors(values.detach()), context.noise_for(stream)
        if self.training and self.start == "k-means":
            self._start_from_clusters(vectors, noise, count_places(values))
        if self.training and self.dead_code_threshold:
            self._reset_dead_codes(vectors, noise, count_places(values))
        codes = self.nearest(values)
        found = self.embed_codes(codes).to(values.dtype)
        entries = found.detach()
        context.report_term("commitment", squared_distance(values, entries), stream)
        if self.update == "gradient":
            context.report_term("codebook", squared_distance(values.detach(), found), stream)
        if self.training:
            self._update_statistics(vectors, codes)
        return pass_gradient(entries, values, self.estimator), codes

    @torch.no_grad()
    def expect(self, vectors: int) -> None:
        """Rescales the cluster sizes of a trained codebook to `vectors` in a step, so that no code is reset for it.

        The codes do not change.
        """
        total = self.cluster_size.sum()
        scale = torch.where(total > 0, vectors / total, 1.0)
        self.cluster_size.mul_(scale)
        if self.update == "ema":
            self.embed_sum.mul_(scale)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes codes from a standard normal distribution, all unused."""
        self.codebook.copy_(self._unit(torch.randn(self.codebook.shape, generator=generator)))
        self.cluster_size.zero_()
        if self.update == "ema":
            self.embed_sum.zero_()

    def _unit(self, vectors: Tensor, dim: int = -1) -> Tensor:
        """Vectors of norm 1 for the cosine distance; others stay as they are."""
        return F.normalize(vectors, dim=dim) if self.distance == "cosine" else vectors

    @torch.no_grad()
    def _start_from_clusters(self, vectors: Vectors, noise: Generators | None, places: int) -> None:
        """Initializes an unused codebook by k-means clusters of the vectors of all ranks."""
        if vectors.is_meta or bool(self.cluster_size.any()):
            return
        means, there, _ = self._candidates(vectors, noise, places)
        if not bool(there.any()):
            return
        # With accumulation, some candidates are in other slices: available ones take their place.
        turn = torch.arange(len(there), device=there.device) % there.sum()
        means = means[there.logical_not().argsort(stable=True)[turn]].to(self.codebook.dtype)
        for _ in range(_K_MEANS_STEPS):
            sums, counts = self._cluster_sums(vectors, nearest_codes(vectors, means))
            means = torch.where(counts[:, None] > 0, self._unit(sums / counts.clamp_min(1)[:, None]), means)
        self.codebook.copy_(means)
        self.cluster_size.copy_(counts)
        if self.update == "ema":
            self.embed_sum.copy_(means * counts[:, None])

    @torch.no_grad()
    def _reset_dead_codes(self, vectors: Vectors, noise: Generators | None, places: int) -> None:
        """Resets dead codes to vectors of the batch, with the cluster size of uniform usage."""
        chosen, there, number = self._candidates(vectors, noise, places)
        even = number.to(self.cluster_size.dtype) / len(self.cluster_size)
        dead = (self.cluster_size < self.dead_code_threshold * even) & there
        chosen = chosen.to(self.codebook.dtype)
        self.codebook.copy_(torch.where(dead[:, None], chosen, self.codebook))
        if self.update == "ema":
            self.embed_sum.copy_(torch.where(dead[:, None], even * chosen, self.embed_sum))
        self.cluster_size.copy_(torch.where(dead, even, self.cluster_size))

    def _candidates(
        self, vectors: Vectors, noise: Generators | None, places: int
    ) -> tuple[Float[Tensor, "code channel"], Tensor, Tensor]:
        """A random vector of the global batch for each code, whether it is available, and the number of vectors.

        The choice is independent of how the batch is split over ranks and accumulation steps. With accumulation, the
        vector of a code may be in another slice. No vector is available if any is not finite.
        """
        drawn_by, first, whole = single_generator(noise, "codes"), 0, len(vectors)
        if isinstance(noise, CountedNoise):
            first, whole = noise.start * places, noise.global_size * places
        # With more codes than vectors, as many codes as there are vectors, on average: others would be duplicates.
        below = max(whole, len(self.cluster_size))
        drawn = (draw_integers(below, self.cluster_size.shape, drawn_by) - first).to(vectors.device)
        here = (drawn >= 0) & (drawn < len(vectors))
        chosen = torch.where(here[:, None], vectors[drawn.clamp(0, len(vectors) - 1)], 0)
        # One all-reduce for everything.
        rest = [here, ~vectors.isfinite().all()[None], vectors.new_full((1,), len(vectors))]
        message = shared_sum(torch.cat([chosen.flatten(), *(part.to(vectors.dtype) for part in rest)]))
        features, there, faults, number = torch.split(message, [chosen.numel(), len(here), 1, 1])
        return features.view_as(chosen), (there > 0) & (faults == 0), number

    @torch.no_grad()
    def _update_statistics(self, vectors: Vectors, codes: CodeIndices) -> None:
        """Updates the moving averages of cluster sizes and, with `ema`, of embedding sums and codes."""
        with full_precision(vectors.device):
            if self.update == "gradient":
                self.cluster_size.lerp_(shared_sum(self._count(codes.flatten())), 1 - self.decay)
                return
            sums, counts = self._cluster_sums(vectors, codes.flatten())
            self.embed_sum.lerp_(sums, 1 - self.decay)
            self.cluster_size.lerp_(counts, 1 - self.decay)
            total = self.cluster_size.sum()
            smoothed = (self.cluster_size + _SMOOTHING) / (total + len(self.cluster_size) * _SMOOTHING) * total
            self.codebook.copy_(self._unit(self.embed_sum / smoothed[:, None]))

    def _count(self, numbers: Tensor) -> Tensor:
        """How often each code is used, (code,)."""
        ones = torch.ones_like(numbers, dtype=self.cluster_size.dtype)
        return torch.zeros_like(self.cluster_size).index_add_(0, numbers, ones)

    def _cluster_sums(self, vectors: Vectors, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the vectors of each code, (code, channel), and their number, (code,), over all ranks."""
        zeros = torch.zeros(self.codebook.shape, dtype=self.codebook.dtype, device=vectors.device)
        near = zeros.index_add_(0, numbers, vectors.to(zeros.dtype))
        found = shared_sum(torch.cat([near, self._count(numbers)[:, None]], 1))
        return found[:, :-1], found[:, -1]
