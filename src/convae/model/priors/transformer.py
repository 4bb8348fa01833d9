"""A causal transformer over codes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import NonNegative, NonNegativeFloat, Positive
from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise, Generators, normal_like
from convae.core.posterior import CodePosterior, Posterior
from convae.core.precision import at_least_float32
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.mode import evaluation_mode
from convae.model.priors._attention import Block, KeysAndValues
from convae.model.priors._labels import class_indices
from convae.model.priors.base import Prior

AT_ONCE = 256
"""Samples that are drawn together, which bounds the memory of keys and values."""
INITIAL_STD = 0.02
"""Standard deviation of initial weights (Radford et al. 2019)."""
Fraction = Annotated[float, Field(gt=0, lt=1)]
TopP = Annotated[float, Field(gt=0, le=1)]
Sequence = Int64[Tensor, "batch place"]


class Transformer(Prior):
    """Autoregressive transformer over the codes of an image (van den Oord et al. 2017; Esser et al. 2021).

    p(codes | class) = Π p(code t | codes before t, class). Positions are in reading order, and at each position the
    levels of the quantizer in turn, so that the density is exact for any number of levels. With classes, the label is
    left out for a fraction of the training images (Ho & Salimans 2022, arXiv:2207.12598): the model is then also one of
    all classes, which `log_prob`, samples without labels and guidance use.

    Args:
        bottleneck: of the model, with codes.
        layers: number of blocks of attention and feed-forward layers.
        width: number of channels.
        heads: attention heads; divides the width.
        dropout: rate of dropout.
        classes: number of classes; `convae prior` takes that of the labels; 0 for none.
        class_dropout: fraction of the training images whose label is left out.

    Raises:
        ConfigError: the latents are not codes, or the heads do not divide the width.
    """

    draws_codes: ClassVar = True
    is_fitted_after: ClassVar = True
    example: ClassVar = {"layers": 1, "width": 8, "heads": 2, "classes": 3}

    def __init__(
        self,
        bottleneck: Bottleneck,
        *,
        layers: Positive = 4,
        width: Positive = 128,
        heads: Positive = 4,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        classes: NonNegative = 0,
        class_dropout: Fraction = 0.1,
    ) -> None:
        super().__init__(bottleneck)
        if not bottleneck.codebook_sizes:
            raise ConfigError("a transformer needs codes. Use the prior gmm or flow-matching for continuous latents")
        if width % heads:
            raise ConfigError(f"prior transformer: heads must divide the width {width}, got {heads}")
        self.sizes, self.code_shape = bottleneck.codebook_sizes, bottleneck.code_shape
        self.grid = self.latent_shape[1:]
        self.classes, self.class_dropout = classes, class_dropout
        levels = len(self.sizes)
        self.code_embedding = nn.Parameter(torch.empty(sum(self.sizes), width))
        self.level_embedding = nn.Parameter(torch.empty(levels, width))
        self.axis_embeddings = nn.ParameterList([nn.Parameter(torch.empty(size, width)) for size in self.grid])
        self.label_embedding = nn.Parameter(torch.empty(classes + 1, width))
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList([nn.Linear(width, size) for size in self.sizes])
        self.drop = nn.Dropout(dropout)
        self.reset()

    @property
    def length(self) -> int:
        """Number of codes of an image."""
        return math.prod(self.grid) * len(self.sizes)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes weights from N(0, 0.02²), biases to 0 and norms to the identity."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * INITIAL_STD)
            elif "norm" in name and name.endswith("weight"):
                parameter.fill_(1)
            else:
                parameter.zero_()

    def log_prob(self, z: Latents, labels: Tensor | None = None) -> PerImage:
        """Log probability of the codes of latents, nats; of any class without labels, or where one is -1."""
        return self.codes_log_prob(self.bottleneck.nearest_codes(z), labels)

    def codes_log_prob(self, codes: Tensor, labels: Tensor | None = None) -> PerImage:
        """Log probability of code indices, (batch, *code shape), nats."""
        return self._log_prob(self._sequence(codes), class_indices(labels, len(codes), self.classes, codes.device))

    def loss(self, values: Tensor, labels: Tensor | None = None, noise: Generators | None = None) -> PerImage:
        """−log p of codes given their label, nats; in training, some labels are left out."""
        chosen = class_indices(labels, len(values), self.classes, values.device)
        if self.training and self.classes:
            own = noise.named("classes") if isinstance(noise, CountedNoise) else noise
            uniform = torch.special.ndtr(normal_like(self.like.new_empty(len(values), 1), own))[:, 0]
            chosen = torch.where(uniform.to(chosen.device) < self.class_dropout, self.classes, chosen)
        return -self._log_prob(self._sequence(values), chosen)

    def relate(self, posterior: Posterior, latent: Latents) -> Posterior:
        """The posterior over codes with this as its prior: its `kl` is −log p(codes), as the codes are certain."""
        assert isinstance(posterior, CodePosterior)  # of a bottleneck with codes
        return replace(posterior, prior=self.codes_log_prob)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
        *,
        top_k: Positive | None = None,
        top_p: TopP | None = None,
        guidance: NonNegativeFloat = 1.0,
        cache: bool = True,
    ) -> Tensor:
        """Code indices, (count, *code shape), drawn one after the other.

        Args:
            count: number of samples.
            noise: one generator, or one for each sample; torch's default generator without it.
            labels: (count,) class numbers; any class where one is -1, or without labels.
            temperature: divisor of the logits; 0 takes the most probable code.
            top_k: draw from the k most probable codes.
            top_p: draw from the fewest most probable codes with this probability together (Holtzman et al. 2020).
            guidance: factor on the difference of the logits with and without the label (Ho & Salimans 2022); 1 for
                none.
            cache: whether to keep keys and values of earlier codes, which is faster and gives the same samples.
        """
        uniform = torch.special.ndtr(normal_like(self.like.new_empty(count, self.length), noise).double())
        chosen = class_indices(labels, count, self.classes, uniform.device)
        choose = _Choice(temperature, top_k, top_p)
        with evaluation_mode(self):
            parts = [
                self._draw(own, classes, choose, guidance, cache)
                for own, classes in zip(uniform.split(AT_ONCE), chosen.split(AT_ONCE), strict=True)
            ]
        return self._indices(torch.cat(parts))

    def _draw(self, uniform: Tensor, classes: Tensor, choose: _Choice, guidance: float, cache: bool) -> Sequence:
        """Sequences of codes, (batch, place), at uniform values of the same shape."""
        is_guided = guidance != 1 and bool((classes < self.classes).any())
        used = torch.cat([classes, torch.full_like(classes, self.classes)]) if is_guided else classes
        codes = torch.zeros_like(uniform, dtype=torch.int64)
        kept = [KeysAndValues(len(used), self.length) for _ in self.blocks] if cache else None
        for place in range(self.length):
            known = codes.repeat(2, 1) if is_guided else codes
            begin = place if cache else 0
            hidden = self._inputs(known, used, begin, place + 1)
            hidden = self._blocks(hidden, kept)[:, -1]
            logits = at_least_float32(self.heads[place % len(self.sizes)](hidden))
            if is_guided:
                with_label, without = logits.chunk(2)
                logits = without + guidance * (with_label - without)
            codes[:, place] = choose(logits, uniform[:, place])
        return codes

    def _log_prob(self, codes: Sequence, classes: Tensor) -> PerImage:
        """Log probability of sequences, nats, given class indices."""
        hidden = self._blocks(self._inputs(codes, classes, 0, self.length))
        total = torch.zeros((), device=codes.device)
        for own, head, level in self._by_level(hidden):
            logits = at_least_float32(head(own))
            each = F.cross_entropy(logits.transpose(1, 2), codes[:, level :: len(self.sizes)], reduction="none")
            total = total - each.sum(1)
        return total

    def _by_level(self, hidden: Tensor) -> Iterator[tuple[Tensor, nn.Module, int]]:
        """The places of each level in hidden values, (batch, position, channel), with the head of the level."""
        for level, head in enumerate(self.heads):
            yield hidden[:, level :: len(self.sizes)], head, level

    def _inputs(self, codes: Sequence, classes: Tensor, begin: int, end: int) -> Tensor:
        """What the first block gets at places `begin` to `end`: the code before, the position and the class.

        Args:
            codes: (batch, place), of which those before `end` - 1 are used.
            classes: (batch,), index of the class, the last for any.
            begin: first place.
            end: place after the last one.
        """
        levels = len(self.sizes)
        places = torch.arange(begin, end, device=codes.device)
        positions, own_levels = places // levels, places % levels
        x = self.level_embedding[own_levels] + self.label_embedding[classes][:, None]
        for axis in reversed(range(len(self.grid))):
            x = x + self.axis_embeddings[axis][positions % self.grid[axis]]
            positions = positions // self.grid[axis]
        first = torch.tensor([sum(self.sizes[:level]) for level in range(levels)], device=codes.device)
        before = places[places > 0] - 1
        embedded = self.code_embedding[codes[:, before] + first[before % levels]]
        x = x + (F.pad(embedded, (0, 0, 1, 0)) if begin == 0 else embedded)
        dropped: Tensor = self.drop(x)
        return dropped

    def _blocks(self, x: Tensor, kept: list[KeysAndValues] | None = None) -> Tensor:
        """Hidden values of all blocks, (batch, place, channel)."""
        for number, block in enumerate(self.blocks):
            x = block(x, None if kept is None else kept[number])
        normed: Tensor = self.norm(x)
        return normed

    def _sequence(self, codes: Tensor) -> Sequence:
        """Code indices, (batch, *code shape), in the order of the model, (batch, place)."""
        return codes.reshape(len(codes), len(self.sizes), -1).transpose(1, 2).flatten(1)

    def _indices(self, sequence: Sequence) -> Tensor:
        """Sequences, (batch, place), as code indices, (batch, *code shape)."""
        levels = sequence.view(len(sequence), -1, len(self.sizes)).transpose(1, 2)
        return levels.reshape(len(sequence), *self.code_shape)


class _Choice:
    """Chooses codes from logits at uniform values; see `Transformer.sample`."""

    def __init__(self, temperature: float, top_k: int | None, top_p: float | None) -> None:
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p

    def __call__(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """(batch,) codes from (batch, code) logits."""
        if self._temperature == 0:
            return logits.argmax(1)
        probabilities = torch.softmax(logits.double() / self._temperature, 1)
        if self._top_k is not None or self._top_p is not None:
            probabilities = self._truncated(probabilities)
        ends = probabilities.cumsum(1)
        chosen = torch.searchsorted(ends, uniform[:, None] * ends[:, -1:], right=True)[:, 0]
        # The last code with a probability, where rounding leads beyond it.
        last = logits.shape[1] - 1 - (probabilities > 0).flip(1).int().argmax(1)
        return torch.minimum(chosen, last)

    def _truncated(self, probabilities: Tensor) -> Tensor:
        """Probabilities, (batch, code), with all but the most probable codes set to 0."""
        ordered, order = probabilities.sort(dim=1, descending=True, stable=True)
        keep = torch.ones_like(ordered, dtype=torch.bool)
        if self._top_k is not None:
            keep[:, self._top_k :] = False
        if self._top_p is not None:
            # A code is kept if those before it do not have the probability yet.
            keep &= ordered.cumsum(1) - ordered < self._top_p
        return torch.zeros_like(probabilities).scatter(1, order, ordered * keep)
