"""A causal transformer over codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import NonNegative, NonNegativeFloat, Positive
from convae.core.context import LatentModule
from convae.core.device import copy_to_device
from convae.core.errors import ConfigError
from convae.core.noise import Generators, drop_values, named_noise, normal_like
from convae.core.posterior import CodePosterior, Posterior
from convae.core.precision import at_least_float32
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.mode import evaluation_mode
from convae.model.priors._attention import Block, KeysAndValues
from convae.model.priors._code_choice import CodeChoice
from convae.model.priors._code_order import CodeOrder
from convae.model.priors._labels import class_indices
from convae.model.priors.base import Prior

AT_ONCE = 256
"""Samples that are drawn together, which bounds the memory of keys and values."""
INITIAL_STD = 0.02
"""Standard deviation of initial weights (Radford et al. 2019)."""
Fraction = Annotated[float, Field(gt=0, lt=1)]
TopP = Annotated[float, Field(gt=0, le=1)]
CodeSequence = Int64[Tensor, "batch place"]


class Transformer(Prior):
    """Autoregressive transformer over the codes of an image (van den Oord et al. 2017; Esser et al. 2021).

    p(codes | class) = Π p(code t | codes before t, class). Latents of a hierarchy follow each other from the top
    (Razavi et al. 2019, arXiv:1906.00446), positions are in raster order, and at each position the levels of the
    quantizer in turn, so that the density is exact for any number of latents and levels. A position of a lower latent
    also sees the codes above it. With classes, the label is
    left out for a fraction of the training images (Ho & Salimans 2022, arXiv:2207.12598): the model is then also one of
    all classes, which `log_prob`, samples without labels and guidance use.

    Args:
        bottleneck: of the model, with codes.
        below: latents of the decoder, from the top; those with codes are part of the sequence.
        layers: number of blocks of attention and feed-forward layers.
        width: number of channels.
        heads: attention heads; divides the width.
        dropout: rate of dropout of the inputs, and of the outputs of attention and feed-forward layers.
        classes: number of classes; `convae prior` takes that of the labels; 0 for none.
        class_dropout: fraction of the training images whose label is left out.
        guidance: of samples with a label, unless they are drawn with another; see `sample`.

    Raises:
        ConfigError: the latents are not codes, or the heads do not divide the width.
    """

    draws_codes: ClassVar = True
    is_fitted_after: ClassVar = True
    spans_hierarchy: ClassVar = True
    example: ClassVar = {"layers": 1, "width": 8, "heads": 2, "classes": 3}

    def __init__(
        self,
        bottleneck: Bottleneck,
        below: Sequence[LatentModule] = (),
        *,
        layers: Positive = 4,
        width: Positive = 128,
        heads: Positive = 4,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        classes: NonNegative = 0,
        class_dropout: Fraction = 0.1,
        guidance: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(bottleneck)
        if not bottleneck.codebook_sizes:
            raise ConfigError("a transformer needs codes. Use the prior gmm or flow-matching for continuous latents")
        if width % heads:
            raise ConfigError(f"prior transformer: heads must divide the width {width}, got {heads}")
        self._latents = (bottleneck, *(each for each in below if each.codebook_sizes))
        self.order = order = CodeOrder(self._latents)
        self.classes, self.class_dropout, self.dropout, self.guidance = classes, class_dropout, dropout, guidance
        sizes, last = order.sizes, order.latents[-1]
        axes = [size for latent in order.latents for size in latent.grid]
        self.code_embedding = nn.Parameter(torch.empty(sum(sizes), width))
        self.level_embedding = nn.Parameter(torch.empty(len(sizes), width))
        self.axis_embeddings = nn.ParameterList([nn.Parameter(torch.empty(size, width)) for size in axes])
        self.label_embedding = nn.Parameter(torch.empty(classes + 1, width))
        if last.begin:
            self.above_embedding = nn.Parameter(torch.empty(sum(sizes[: last.first_level]), width))
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList([nn.Linear(width, size) for size in sizes])
        self.reset()

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
        """Log probability of the codes of latents of the bottleneck, nats; of any class where a label is -1 or none."""
        return self.codes_log_prob(self.bottleneck.nearest_codes(z), labels)

    def codes_log_prob(self, codes: Tensor, labels: Tensor | None = None) -> PerImage:
        """Log probability of code indices, nats.

        Args:
            codes: (batch, *code shape); of a hierarchy (batch, code), those of the first latent or more, from the top.
            labels: (batch,) class numbers; any class where one is -1, or without labels.
        """
        chosen = class_indices(labels, len(codes), self.classes, codes.device)
        return self._log_probs(self.order.sequence(codes), chosen).sum(0)

    def loss(self, values: Tensor, labels: Tensor | None = None, noise: Generators | None = None) -> PerImage:
        """−log p of codes given their label, nats; in training, some labels are left out."""
        chosen = class_indices(labels, len(values), self.classes, values.device)
        if self.training and self.classes:
            normal = normal_like(self.like.new_empty(len(values), 1), named_noise(noise, "classes"))
            uniform = torch.special.ndtr(normal)[:, 0]
            chosen = torch.where(copy_to_device(uniform, chosen.device) < self.class_dropout, self.classes, chosen)
        return -self._log_probs(self.order.sequence(values), chosen, noise).sum(0)

    def relate(self, posterior: Posterior, latent: Latents) -> Posterior:
        """The posterior over codes with this as its prior: its `kl` is −log p(codes), as the codes are certain."""
        assert isinstance(posterior, CodePosterior)  # of a bottleneck with codes
        return replace(posterior, prior=self.codes_log_prob)

    def relate_all(self, posteriors: Mapping[str, Posterior]) -> dict[str, Posterior]:
        """The same for all latents: `kl` of each is −log p of its codes given those of the latents above."""
        names = [each.stream for each in self.latents]
        parts = {name: own for name, own in posteriors.items() if name in names and isinstance(own, CodePosterior)}

        @lru_cache(maxsize=1)
        def each_log_prob() -> Tensor:
            codes = torch.cat([parts[name].codes.reshape(len(parts[name].codes), -1) for name in names], 1)
            classes = class_indices(None, len(codes), self.classes, codes.device)
            return self._log_probs(self.order.sequence(codes), classes)

        def related(name: str) -> Posterior:
            return replace(parts[name], prior=lambda _: each_log_prob()[names.index(name)])

        return {**posteriors, **{name: related(name) for name in names}}

    @torch.no_grad()
    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float | Sequence[float] = 1.0,
        *,
        top_k: Positive | None = None,
        top_p: TopP | None = None,
        guidance: NonNegativeFloat | None = None,
        cache: bool = True,
    ) -> Tensor:
        """Code indices, (count, *code shape), drawn one after the other; of a hierarchy (count, code), from the top.

        Args:
            count: number of samples.
            noise: one generator, or one for each sample; torch's default generator without it.
            labels: (count,) class numbers; any class where one is -1, or without labels.
            temperature: divisor of the logits, one for all latents or one for each; 0 takes the most probable code.
            top_k: draw from the k most probable codes.
            top_p: draw from the fewest most probable codes with this probability together (Holtzman et al. 2020).
            guidance: factor on the difference of the logits with and without the label (Ho & Salimans 2022); 1 for
                none; by default that of the prior.
            cache: whether to keep keys and values of earlier codes, which is faster and gives the same samples.
        """
        uniform = torch.special.ndtr(normal_like(self.like.new_empty(count, self.order.length), noise).double())
        chosen = class_indices(labels, count, self.classes, uniform.device)
        each = list(temperature) if isinstance(temperature, Sequence) else [temperature] * len(self.latents)
        choices = [CodeChoice(own, top_k, top_p) for own in each]
        factor = self.guidance if guidance is None else guidance
        with evaluation_mode(self):
            parts = [
                self._draw(own, classes, choices, factor, cache)
                for own, classes in zip(uniform.split(AT_ONCE), chosen.split(AT_ONCE), strict=True)
            ]
        return self.order.indices(torch.cat(parts)).view(count, *self.code_shape)

    def _draw(
        self, uniform: Tensor, classes: Tensor, choices: Sequence[CodeChoice], guidance: float, cache: bool
    ) -> CodeSequence:
        """Sequences of codes, (batch, place), at uniform values of the same shape."""
        is_guided = guidance != 1 and bool((classes < self.classes).any())
        used = torch.cat([classes, torch.full_like(classes, self.classes)]) if is_guided else classes
        codes = torch.zeros_like(uniform, dtype=torch.int64)
        kept = [KeysAndValues(len(used), self.order.length) for _ in self.blocks] if cache else None
        for latent, choose in zip(self.order.latents, choices, strict=True):
            for place in range(latent.begin, latent.end):
                known = codes.repeat(2, 1) if is_guided else codes
                hidden = self._inputs(known, used, place if cache else 0, place + 1)
                hidden = self._run_blocks(hidden, kept)[:, -1]
                logits = at_least_float32(self.heads[self.order.level_at(place)](hidden))
                if is_guided:
                    with_label, without = logits.chunk(2)
                    logits = without + guidance * (with_label - without)
                codes[:, place] = choose(logits, uniform[:, place])
        return codes

    def _log_probs(
        self, codes: CodeSequence, classes: Tensor, noise: Generators | None = None
    ) -> Float[Tensor, "latent batch"]:
        """Log probability of the codes of each latent given those above, nats.

        Args:
            codes: (batch, place), up to the end of one of the latents.
            classes: (batch,) class indices.
            noise: for dropout.
        """
        hidden = self._run_blocks(self._inputs(codes, classes, 0, codes.shape[1], noise), noise=noise)
        found = []
        for latent in self.order.latents:
            if latent.end > codes.shape[1]:
                break
            total = torch.zeros(len(codes), device=codes.device)
            for level, places in self.order.levels(latent):
                logits = at_least_float32(self.heads[level](hidden[:, places]))
                each = F.cross_entropy(logits.transpose(1, 2), codes[:, places], reduction="none")
                total = total - each.sum(1)
            found.append(total)
        return torch.stack(found)

    def _inputs(
        self, codes: CodeSequence, classes: Tensor, begin: int, end: int, noise: Generators | None = None
    ) -> Tensor:
        """What the first block gets at places `begin` to `end`: the code before, those above, position and class.

        Args:
            codes: (batch, place), of which those before `end` - 1 are used.
            classes: (batch,), index of the class, the last for any.
            begin: first place.
            end: place after the last one.
            noise: for dropout.
        """
        tables = self.order.tables(codes.device)
        parts, axis = [], 0
        for number, latent in enumerate(self.order.latents):
            here = slice(max(begin, latent.begin), min(end, latent.end))
            if here.start < here.stop:
                positions = torch.arange(here.start, here.stop, device=codes.device).sub_(latent.begin)
                positions = positions // len(latent.sizes)
                labels = F.embedding(classes, self.label_embedding)[:, None]
                x = F.embedding(tables.levels[here], self.level_embedding) + labels
                if number:
                    above = tables.above[number][positions]
                    x = x + F.embedding(codes[:, above] + tables.first[above], self.above_embedding).sum(2)
                for size, table in reversed([*zip(latent.grid, self.axis_embeddings[axis:], strict=False)]):
                    x = x + F.embedding(positions % size, table)
                    positions = positions // size
                parts.append(x)
            axis += len(latent.grid)
        before = slice(max(0, begin - 1), end - 1)
        embedded = F.embedding(codes[:, before] + tables.first[before], self.code_embedding)
        x = torch.cat(parts, 1) + (F.pad(embedded, (0, 0, 1, 0)) if begin == 0 else embedded)
        is_dropped = self.training and self.dropout > 0
        return drop_values(x, self.dropout, named_noise(noise, "inputs")) if is_dropped else x

    def _run_blocks(
        self, x: Tensor, kept: list[KeysAndValues] | None = None, noise: Generators | None = None
    ) -> Tensor:
        """Hidden values of all blocks, (batch, place, channel)."""
        for number, block in enumerate(self.blocks):
            x = block(x, None if kept is None else kept[number], named_noise(noise, f"block {number}"))
        normed: Tensor = self.norm(x)
        return normed
