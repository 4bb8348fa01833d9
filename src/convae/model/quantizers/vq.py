"""Vector quantization with a table of code vectors."""

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
from convae.core.errors import ConfigError
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

    Dead codes, which few vectors are assigned to, are reset to random vectors of the batch at the end of a step
    (Dhariwal et al. 2020, arXiv:2005.00341). The first training step begins with all codes on vectors of the batch;
    with more codes than vectors in a batch, the first few steps set all.

    Args:
        channels: of the vectors.
        codes: codebook size.
        update: how codes are trained: by the exponential moving average of their vectors (`ema`), or by the gradient
            of the term `codebook`.
        decay: decay of the moving averages, per step.
        dead_code_threshold: usage below which a code is dead, as a fraction of uniform usage; 0 disables resets.
        distance: `euclidean`, or `cosine` for vectors and codes of norm 1 (Yu et al. 2021, arXiv:2110.04627).
        start: what the first training step initializes the codes to: random vectors of the batch, or their `k-means`
            clusters.
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
        self._is_started = self._starts_in_step = False
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

        In training the codebook is updated after the pass, or after the last slice of a batch.
        """
        values = self._unit(values, 1)
        vectors, noise, places = to_vectors(values.detach()), context.noise_for(stream), count_places(values)
        is_trained = self.training and not values.is_meta
        with batch_slices() as slices:
            if is_trained and not self.has_started:
                slices.start(self, vectors, partial(self._start, noise, places))
            codes = self.nearest(values)
            found = self.embed_codes(codes).to(values.dtype)
            if is_trained:
                slices.add((self, stream), self._statistics(vectors, codes.flatten(), noise, places), self._update)
        entries = found.detach()
        context.report_term("commitment", squared_distance(values, entries), stream)
        if self.update == "gradient":
            context.report_term("codebook", squared_distance(values.detach(), found), stream)
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
        self._is_started = False
        if self.update == "ema":
            self.embed_sum.zero_()

    def _unit(self, vectors: Tensor, dim: int = -1) -> Tensor:
        """Vectors of norm 1 for the cosine distance; others stay as they are."""
        return F.normalize(vectors, dim=dim) if self.distance == "cosine" else vectors

    @property
    def has_started(self) -> bool:
        """Whether a training step has initialized the codes; synchronizes with the device in the first steps."""
        if self._is_started:
            return True
        has_started = bool(self.cluster_size.any())
        # The step that initialized them may be skipped, which restores the codebook.
        self._is_started = has_started and not self._starts_in_step
        return has_started

    @torch.no_grad()
    def _start(self, noise: Generators | None, places: int, vectors: Vectors) -> None:
        """Initializes the codes from the vectors of the batch on this rank."""
        if not self.dead_code_threshold and self.start == "vectors":
            return
        self._starts_in_step = True
        chosen, is_there = self._candidates(vectors, noise, places)
        # One all-reduce for everything.
        rest = [is_there, ~vectors.isfinite().all()[None], vectors.new_full((1,), len(vectors))]
        message = shared_sum(torch.cat([chosen.flatten(), *(part.to(vectors.dtype) for part in rest)]))
        flat, there, faults, number = torch.split(message, [chosen.numel(), len(is_there), 1, 1])
        means, is_there = flat.view_as(chosen).to(self.codebook.dtype), there > 0
        counts = (number / len(means)).to(means.dtype).expand(len(means))
        if self.start == "k-means":
            # With more codes than vectors, others take the place of missing ones.
            turn = torch.arange(len(means), device=means.device) % is_there.sum().clamp_min(1)
            means, counts = self._clusters(vectors, means[is_there.logical_not().argsort(stable=True)[turn]])
            is_there = torch.ones_like(is_there)
        self._set_codes(is_there & (faults == 0), means, counts)

    def _set_codes(self, is_set: Tensor, codes: Tensor, sizes: Tensor) -> None:
        """Sets codes, where `is_set`, with the sizes of their clusters."""
        self.codebook.copy_(torch.where(is_set[:, None], codes, self.codebook))
        self.cluster_size.copy_(torch.where(is_set, sizes, self.cluster_size))
        if self.update == "ema":
            self.embed_sum.copy_(torch.where(is_set[:, None], codes * sizes[:, None], self.embed_sum))

    def _clusters(self, vectors: Vectors, means: Tensor) -> tuple[Tensor, Tensor]:
        """K-means clusters of the vectors of all ranks, (code, channel), and the number of vectors in each."""
        counts = means.new_zeros(len(means), 1)
        for _ in range(_K_MEANS_STEPS):
            codes = nearest_codes(vectors, means)
            own = torch.cat([self._sum(vectors, codes), self._count(codes)[:, None]], 1)
            sums, counts = shared_sum(own).split([means.shape[1], 1], 1)
            means = torch.where(counts > 0, self._unit(sums / counts.clamp_min(1)), means)
        return means, counts[:, 0]

    def _candidates(
        self, vectors: Vectors, noise: Generators | None, places: int
    ) -> tuple[Float[Tensor, "code channel"], Tensor]:
        """A random vector of the global batch for each code, zeros where it is not here, and whether it is.

        The choice is independent of how the batch is split over ranks and slices.
        """
        drawn_by, first, whole = single_generator(noise, "codes"), 0, len(vectors)
        if isinstance(noise, CountedNoise):
            first, whole = noise.start * places, noise.global_size * places
        # With more codes than vectors, as many codes as there are vectors, on average: others would be duplicates.
        below = max(whole, len(self.cluster_size))
        drawn = (draw_integers(below, self.cluster_size.shape, drawn_by) - first).to(vectors.device)
        is_here = (drawn >= 0) & (drawn < len(vectors))
        return torch.where(is_here[:, None], vectors[drawn.clamp(0, len(vectors) - 1)], 0), is_here

    @torch.no_grad()
    def _statistics(self, vectors: Vectors, codes: Tensor, noise: Generators | None, places: int) -> Tensor:
        """What a slice adds to the statistics of the batch, as one vector; see `_update`."""
        counts = self._count(codes)
        parts = [counts, counts.sum()[None], ~vectors.isfinite().all()[None]]
        if self.update == "ema":
            parts.append(self._sum(vectors, codes).flatten())
        if self.dead_code_threshold:
            chosen, is_here = self._candidates(vectors, noise, places)
            parts += [chosen.flatten(), is_here]
        return torch.cat([part.to(counts.dtype) for part in parts])

    @torch.no_grad()
    def _update(self, statistics: Tensor) -> None:
        """Updates the moving averages of cluster sizes and, with `ema`, of embedding sums and codes; resets dead codes.

        Dead codes become vectors of the batch, with the cluster size of uniform usage, unless a vector is not finite.
        """
        self._starts_in_step = False
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
            chosen, there = rest[-2].view(shape), rest[-1]
            even = (number / codes).expand(codes)
            dead = self.cluster_size < self.dead_code_threshold * even
            self._set_codes(dead & (there > 0) & (faults == 0), chosen, even)

    def _count(self, codes: Tensor) -> Tensor:
        """How often each code is used on this rank, (code,)."""
        return torch.zeros_like(self.cluster_size).index_add_(0, codes, self.cluster_size.new_ones(len(codes)))

    def _sum(self, vectors: Vectors, codes: Tensor) -> Tensor:
        """The sum of the vectors of each code on this rank, (code, channel)."""
        zeros = torch.zeros_like(self.codebook, requires_grad=False)
        return zeros.index_add_(0, codes, vectors.to(zeros.dtype))

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._is_started = False
