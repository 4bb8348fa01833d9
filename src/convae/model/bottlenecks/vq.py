"""The bottleneck of the VQ-VAE: each place of the latent is the nearest entry of a code book."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Fraction, Positive
from convae.core.collective import shared_sum
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.precision import full_precision, wide
from convae.core.random import Counted, torch_generator
from convae.core.types import Generators, Latents, PerImage, Shape
from convae.model.bottlenecks.base import Bottled, Bottleneck, projected
from convae.model.bottlenecks.gaussian import LOGVAR_RANGE

Vectors = Float[Tensor, "vector channel"]
_SMOOTHING = 1e-5
"""Added to each entry's use, in vectors, so that no mean is divided by zero."""


@dataclass(frozen=True)
class CodePosterior:
    """All belief on one entry of the code book at each place, against a prior that holds all entries equally likely.

    Attributes:
        mean: (batch, *latent), the entries.
        codes: (batch, *grid), their numbers.
        entries: how many the code book has.
    """

    mean: Latents
    codes: Int64[Tensor, "batch *grid"]  # noqa: UP037
    entries: int

    @property
    def logvar(self) -> Latents:
        """(batch, *latent), that of no variance."""
        return torch.full_like(self.mean, LOGVAR_RANGE[0])

    def sample(self, generator: Generators | None = None) -> Latents:
        """The entries: nothing is left to chance."""
        return self.mean

    def kl(self) -> PerImage:
        """log(entries) for each place, nats per image: the same for all images."""
        return self.mean.new_full((len(self.mean),), math.log(self.entries) * math.prod(self.codes.shape[1:]))

    def log_prob(self, z: Latents) -> PerImage:
        """The logarithm of the mass at each latent, nats: 0 at the entries, −∞ elsewhere."""
        equal = (z == self.mean).flatten(1).all(1)
        return torch.where(equal, 0.0, -math.inf).to(self.mean.dtype)


class VQ(Bottleneck):
    """Vector quantisation (van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937).

    Each place of a latent map, or a latent vector as a whole, becomes the nearest entry of a code book; gradients pass
    it straight through. Objectives need the term `commitment`, which keeps features near their entries, in the place
    of `kl`, which is constant here; and with `update: gradient` the term `codebook`.

    Entries that hardly any feature is near to are dead: each moves onto a feature of the batch, drawn by the step's
    own generator (Dhariwal et al. 2020, arXiv:2005.00341). As none was ever used when training begins, this is also
    how the code book begins.

    Samples of the prior are entries drawn evenly at each place, so they have no large structure: that takes a model
    of the codes (`convae encode` writes them).

    Args:
        shape: (channels, *sizes) of the encoder's features.
        codes: entries of the code book.
        latent: channels of an entry; without a head it may be left out, since it is the feature channels.
        head: whether a linear map stands between the features and the code book.
        update: entries follow the moving average of the features near them (`ema`), or the gradient of the term
            `codebook`.
        decay: of the moving averages, a step.
        restart: an entry is dead that is used less than this share of an even use; 0 lets the dead lie.
    """

    example: ClassVar = {"codes": 4, "latent": 3}
    is_quantized: ClassVar = True
    codebook: Tensor
    uses: Tensor
    sums: Tensor

    def __init__(
        self,
        shape: Shape,
        *,
        codes: Annotated[int, Field(ge=2, le=1 << 20)] = 512,
        latent: Positive | None = None,
        head: bool = True,
        update: Literal["ema", "gradient"] = "ema",
        decay: Annotated[float, Field(gt=0, lt=1)] = 0.99,
        restart: Fraction = 0.03,
    ) -> None:
        super().__init__()
        if latent is None and head:
            raise ConfigError("'latent' is missing: how many channels an entry of the code book has")
        channels = latent or shape[0]
        self.latent_shape = (channels, *shape[1:])
        self.update, self.decay, self.restart = update, decay, restart
        self.needs = ("commitment", "codebook") if update == "gradient" else ("commitment",)
        self.moves = ("codebook",) if update == "gradient" else ()
        if head:
            self.weight = nn.Parameter(torch.empty(channels, shape[0]))
            self.bias = nn.Parameter(torch.empty(channels))
        elif shape[0] != channels:
            raise ShapeError(
                f"needs {channels} feature channels for {channels} without a head, got {shape_text(shape)}"
            )
        self.head = head
        entries = torch.empty(codes, channels)
        if update == "gradient":
            self.codebook = nn.Parameter(entries)
        else:
            self.register_buffer("codebook", entries)
            self.register_buffer("sums", torch.empty(codes, channels))
        self.register_buffer("uses", torch.empty(codes))

    @property
    def codebook_size(self) -> int:
        """How many codes there are."""
        return len(self.codebook)

    def latent_of(self, codes: Int64[Tensor, "batch *grid"]) -> Latents:  # noqa: UP037
        """The codes' vectors: (batch, *grid) numbers to (batch, channel, *grid)."""
        return self._entries(codes)

    def posterior(self, features: Tensor) -> CodePosterior:
        """(batch, *features) to the nearest entries, in float32 or wider."""
        return self._nearest(self._values(features))

    def forward(self, features: Tensor, generator: Generators | None = None, sample: bool = True) -> Bottled:
        """The entries, with the squared distances to them (squared latent units per image) as terms.

        In training the code book moves: first the dead entries, and after the pass, with `ema`, all others.
        """
        values = self._values(features)
        vectors = _vectors(values.detach())
        if self.training and self.restart:
            self._raise_dead(vectors, generator)
        found = self._nearest(values)
        entries = found.mean.detach()
        terms = {"commitment": (values - entries).square().flatten(1).sum(1)}
        if self.update == "gradient":
            terms["codebook"] = (values.detach() - found.mean).square().flatten(1).sum(1)
        if self.training:
            self._follow(vectors, found.codes)
        # Straight through: the entries, with the gradient of the features.
        latent = entries + (values - values.detach())
        return Bottled(latent, CodePosterior(latent, found.codes, found.entries), terms)

    def draw(self, count: int, generator: Generators | None) -> Latents:
        """`count` latents whose entries are drawn evenly at each place."""
        grid, entries = self.latent_shape[1:], len(self.codebook)
        if isinstance(generator, Sequence):
            if len(generator) != count:
                raise ShapeError(f"{count} latents need as many generators, got {len(generator)}")
            codes = torch.stack([_drawn(entries, grid, own) for own in generator])
        else:
            codes = _drawn(entries, (count, *grid), _single(generator))
        return self._entries(codes.to(self.codebook.device))

    def quantize(self, z: Latents) -> Latents:
        """Each place of the latents moved to its nearest code."""
        return self._nearest(z).mean

    def log_prior(self, z: Latents) -> PerImage:
        """−log(entries) for each place, nats: the mass of any latent that is made of entries."""
        places = math.prod(z.shape[2:])
        return z.new_full((len(z),), -places * math.log(len(self.codebook)))

    @torch.no_grad()
    def expect(self, batch: int) -> None:
        """Scales the codes' uses to steps of `batch` images, so that none counts as dead because batches were smaller.

        For a codebook that was trained before; the codes stay as they are.
        """
        total = self.uses.sum()
        scale = torch.where(total > 0, batch * math.prod(self.latent_shape[1:]) / total, 1.0)
        self.uses.mul_(scale)
        if self.update == "ema":
            self.sums.mul_(scale)

    def reset(self, generator: torch.Generator) -> None:
        """Normal entries, all unused, and a head that keeps the size of the features."""
        self.codebook.copy_(torch.randn(self.codebook.shape, generator=generator))
        self.uses.zero_()
        if self.update == "ema":
            self.sums.zero_()
        if self.head:
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(self.weight.shape[1]))
            self.bias.zero_()

    def _values(self, features: Tensor) -> Latents:
        """What is compared with the entries."""
        return wide(projected(features, self.weight, self.bias) if self.head else features)

    def _entries(self, codes: Tensor) -> Latents:
        """(batch, *grid) numbers to (batch, channel, *grid) entries."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def _nearest(self, values: Latents) -> CodePosterior:
        """The nearest entry at each place."""
        with torch.no_grad(), full_precision(values.device):
            vectors, entries = _vectors(values), self.codebook.to(values.dtype)
            # |v|² is the same for all entries.
            distances = entries.square().sum(1) - 2 * vectors @ entries.T
            codes = distances.argmin(1).view(values.shape[0], *values.shape[2:])
        return CodePosterior(self._entries(codes).to(values.dtype), codes, len(self.codebook))

    @torch.no_grad()
    def _raise_dead(self, vectors: Vectors, generator: Generators | None) -> None:
        """Moves unused entries onto features of the batch, and lets them live as if they were used evenly."""
        chosen, there, number = self._candidates(vectors, generator)
        even = number.to(self.uses.dtype) / len(self.uses)
        dead = (self.uses < self.restart * even) & there
        chosen = chosen.to(self.codebook.dtype)
        self.codebook.copy_(torch.where(dead[:, None], chosen, self.codebook))
        if self.update == "ema":
            self.sums.copy_(torch.where(dead[:, None], even * chosen, self.sums))
        self.uses.copy_(torch.where(dead, even, self.uses))

    def _candidates(
        self, vectors: Vectors, generator: Generators | None
    ) -> tuple[Float[Tensor, "entry channel"], Tensor, Tensor]:
        """A feature for each entry, whether it is there, and how many features there are, over all processes.

        They are drawn from the whole batch, the same however it is cut. Where it goes through the model part by part,
        that of an entry may be in another part. None is there if any feature is not finite.
        """
        drawn_by, first, whole = _single(generator), 0, len(vectors)
        if isinstance(generator, Counted):
            places = math.prod(self.latent_shape[1:])
            first, whole = generator.start * places, generator.whole * places
        drawn = (_drawn(whole, self.uses.shape, drawn_by) - first).to(vectors.device)
        here = (drawn >= 0) & (drawn < len(vectors))
        chosen = torch.where(here[:, None], vectors[drawn.clamp(0, len(vectors) - 1)], 0)
        # One message for all of it.
        rest = [here, ~vectors.isfinite().all()[None], vectors.new_full((1,), len(vectors))]
        message = shared_sum(torch.cat([chosen.flatten(), *(part.to(vectors.dtype) for part in rest)]))
        features, there, faults, number = torch.split(message, [chosen.numel(), len(here), 1, 1])
        return features.view_as(chosen), (there > 0) & (faults == 0), number

    @torch.no_grad()
    def _follow(self, vectors: Vectors, codes: Tensor) -> None:
        """The moving averages of how often each entry is used and, with `ema`, of the features near it."""
        with full_precision(vectors.device):
            numbers = codes.flatten()
            used = torch.zeros_like(self.uses).index_add_(0, numbers, torch.ones_like(numbers, dtype=self.uses.dtype))
            if self.update == "gradient":
                self.uses.lerp_(shared_sum(used), 1 - self.decay)
                return
            near = torch.zeros_like(self.sums).index_add_(0, numbers, vectors.to(self.sums.dtype))
            found = shared_sum(torch.cat([near, used[:, None]], 1))
            self.sums.lerp_(found[:, :-1], 1 - self.decay)
            self.uses.lerp_(found[:, -1], 1 - self.decay)
            total = self.uses.sum()
            smoothed = (self.uses + _SMOOTHING) / (total + len(self.uses) * _SMOOTHING) * total
            self.codebook.copy_(self.sums / smoothed[:, None])


def _vectors(values: Latents) -> Vectors:
    """(batch, channel, *grid) to one row for each place."""
    return values.movedim(1, -1).flatten(0, -2)


def _single(generator: Generators | None) -> torch.Generator | None:
    """One generator for what is drawn for a whole batch."""
    if isinstance(generator, Counted):
        return torch_generator(generator.seed, *generator.words, "codes")
    return generator[0] if isinstance(generator, Sequence) else generator


def _drawn(below: int, shape: Shape, generator: torch.Generator | None) -> Tensor:
    """Whole numbers below a bound, evenly, on the generator's own device."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(below, tuple(shape), generator=generator, device=device)
