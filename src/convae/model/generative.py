"""The generative half of a VAE: the prior p(z), and the decoder's likelihood p(x | z)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from convae.core.arguments import parse_arguments
from convae.core.context import Context, LatentModule
from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.core.noise import Generators
from convae.core.output import Likelihood
from convae.core.types import AnyCodes, AnyCount, AnyGenerators, AnyLabels, AnyLatents, Images, Latents
from convae.model.bottlenecks.base import Bottleneck
from convae.model.encoder_decoder import EncoderDecoder
from convae.model.inputs import (
    checked_codes,
    checked_generator,
    checked_sample_count,
    explain_mixed_types,
    tensor_or_none,
    weights_type,
)
from convae.model.mode import evaluation_mode
from convae.model.priors.base import Prior


class GenerativeModel(EncoderDecoder):
    """p(x, z) = p(z) p(x | z): samples from the prior, and decodes latents.

    Attributes:
        bottleneck: holds the top latent and its codebook.
        prior: p(z) of the top latent.
    """

    bottleneck: Bottleneck
    prior: Prior

    @property
    def latent_modules(self) -> list[LatentModule]:
        """The modules with a latent, from the top: the bottleneck, then those of the decoder."""
        inside = [module for module in self.decoder.modules() if isinstance(module, LatentModule)]
        return [self.bottleneck, *inside]

    @property
    def is_hierarchical(self) -> bool:
        """Whether the model has several latents."""
        return len(self.latent_layout.entries) > 1

    @explain_mixed_types
    def decode(self, z: AnyLatents, labels: AnyLabels | None = None, *, levels: int | None = None) -> Likelihood:
        """Likelihood p(x | z) of each latent; computed in evaluation mode, as `encode` is.

        Args:
            z: latents; any floating type is converted to that of the weights.
            labels: class numbers of the images, for a conditional model.
            levels: number of latents from the top that are taken from `z`, at least 1; the others are the mean of
                their prior. Without it, all are taken.

        Raises:
            ShapeError: the latents do not have the model's latent shape, or are not finite floats.
            ConfigError: the model is conditional, and labels are missing or not class numbers of it.
        """
        with evaluation_mode(self):
            latents = self.latent_layout.split(self._checked_latents(z))
            given = dict(list(latents.items())[: self._checked_levels(levels)])
            return self._decoded(
                given[self.bottleneck.stream], labels, Context(labels=tensor_or_none(labels), given=given)
            )

    @explain_mixed_types
    def decode_codes(self, codes: AnyCodes | Mapping[str, AnyCodes], labels: AnyLabels | None = None) -> Likelihood:
        """Likelihood p(x | z) of latents given as code indices, such as `encode(images).codes`.

        Args:
            codes: the code index at each position of the latent: (batch, *grid) with one codebook, (batch, level,
                *grid) with several. Of several latents, the codes by name; those without are the mean of their prior.
            labels: class numbers of the images, for a conditional model.

        Raises:
            ConfigError: the model has no codebook, or an index is out of range.
            ShapeError: the codes are not integers of the latent's grid.
        """
        given = self._embedded(codes)
        with evaluation_mode(self):
            context = Context(labels=tensor_or_none(labels), given=given)
            return self._decoded(given[self.bottleneck.stream], labels, context)

    def embed_codes(self, codes: AnyCodes | Mapping[str, AnyCodes]) -> Latents:
        """Latents, (batch, *latent), of code indices: the vector of the code at each position.

        Args:
            codes: as for `decode_codes`, of all latents.

        Raises:
            ConfigError: the model has no codebook, codes of a latent are missing, or an index is out of range.
            ShapeError: the codes are not integers of the latent's grid.
        """
        given = self._embedded(codes)
        missing = [name for name, _ in self.latent_layout.entries if name not in given]
        if missing:
            raise ConfigError(f"the codes of {', '.join(missing)} are missing. Pass a mapping with all latents")
        return self.latent_layout.join(given)

    @explain_mixed_types
    @torch.no_grad()
    def sample(
        self,
        n: AnyCount,
        generator: AnyGenerators | None = None,
        labels: AnyLabels | None = None,
        *,
        temperature: float | Mapping[str, float] = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> Images:
        """Samples `n` images from the prior: the mean of p(x | z), in [0, 1]; the model's mode is restored.

        Args:
            n: number of images, at least 1.
            generator: random generator for the latents, or one for each image.
            labels: class numbers, for a conditional model, by default the classes in turn; and for a prior that
                depends on labels, by default samples of any class.
            temperature: factor on the standard deviation of the prior: one for all latents, or by the latent's name.
            options: options of the prior's own, such as `{"top_p": 0.9}`.

        Raises:
            ConfigError: `n` is not a positive integer, labels are not class numbers of a conditional model, or a
                temperature is negative or of an unknown latent.
            ShapeError: there is not one generator for each image.
        """
        count = checked_sample_count(n)
        if labels is None and self.condition is not None:
            labels = torch.arange(count, device=self.prior.like.device) % self.condition.classes
        return self._sampled(count, checked_generator(generator), labels, temperature, options)[1].mean

    def sample_latents(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float | Mapping[str, float] = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> Latents:
        """Latents, (count, *latent), drawn from the prior, in the type and on the device of the weights.

        Several latents are drawn from the top down.

        Args:
            count: number of latents.
            noise: one generator, or one for each latent; torch's default generator without it.
            labels: (count,) class numbers, for a prior that depends on them.
            temperature: factor on the standard deviation of the prior: one for all latents, or by the latent's name.
            options: options of the prior's own, such as `{"top_p": 0.9}`.

        Raises:
            ConfigError: a temperature is negative or not finite, there is no latent of a name, or the prior does not
                have an option.
            ShapeError: there is not one generator for each latent.
        """
        if not self.is_hierarchical:
            return self._draw_prior(count, noise, labels, temperature, options)[self.bottleneck.stream]
        return self._sampled(count, noise, labels, temperature, options)[0]

    def nearest_latents(self, z: Latents) -> Latents:
        """The nearest latents to `z`, (batch, *latent), that the model can encode: codes become code vectors."""
        latents = self.latent_layout.split(z)
        return self.latent_layout.join(
            {each.stream: each.nearest_latents(latents[each.stream]) for each in self.latent_modules}
        )

    def _embedded(self, codes: AnyCodes | Mapping[str, AnyCodes]) -> dict[str, Latents]:
        """Latents of code indices by name, in the type of the weights."""
        named = codes if isinstance(codes, Mapping) else {self.bottleneck.stream: codes}
        known = {each.stream: each for each in self.latent_modules if each.codebook_sizes}
        if not known:
            raise ConfigError(f"model '{self.name}' has no codebook. Use decode")
        given: dict[str, Latents] = {}
        for name, own in named.items():
            if name not in known:
                raise ConfigError(unknown_message("latent of codes", name, known))
            each, device = known[name], weights_type(self)[1] or torch.device("cpu")
            found = checked_codes(own, each.code_shape, each.codebook_sizes, device)
            given[name] = self._converted(each.embed_codes(found))
        if self.bottleneck.stream not in given:
            raise ConfigError(f"the codes of the latent '{self.bottleneck.stream}' are missing")
        return given

    def _draw_prior(
        self,
        count: int,
        noise: Generators | None,
        labels: Tensor | None,
        temperature: float | Mapping[str, float],
        options: Mapping[str, Any] | None,
    ) -> dict[str, Latents]:
        """Latents by name, (count, *latent) each, drawn from the prior: of the bottleneck, and of others it covers."""
        prior, context = self.prior, Context(temperature=self._checked_temperature(temperature))
        each = [context.temperature_of(module.stream) for module in prior.latents]
        checked = parse_arguments(type(prior).sample, options, "options of the prior") if options else {}
        own: Any = each[0] if len(each) == 1 else each
        drawn = prior.sample(count, noise, labels, own, **checked)
        if not prior.draws_codes:
            return {self.bottleneck.stream: self._converted(drawn)}
        parts = drawn.reshape(count, -1).split([math.prod(module.code_shape) for module in prior.latents], 1)
        return {
            module.stream: self._converted(module.embed_codes(part.reshape(count, *module.code_shape)))
            for module, part in zip(prior.latents, parts, strict=True)
        }

    def _sampled(
        self,
        count: int,
        noise: Generators | None,
        labels: Tensor | None,
        temperature: float | Mapping[str, float],
        options: Mapping[str, Any] | None,
    ) -> tuple[Latents, Likelihood]:
        """Latents, (count, *latent), drawn from the prior from the top down, and their likelihood."""
        given = self._draw_prior(count, noise, labels, temperature, options)
        context = Context(noise, labels, "prior", given, temperature)
        with evaluation_mode(self):
            likelihood = self._decoded(given[self.bottleneck.stream], labels, context)
        return self._converted(self.latent_layout.join({**context.latents, **given})), likelihood

    def _checked_temperature(self, temperature: float | Mapping[str, float]) -> float | Mapping[str, float]:
        """Validates the temperature of all latents, or of latents by name.

        Raises:
            ConfigError: a temperature is negative or not finite, or there is no latent of a name.
        """
        names = [name for name, _ in self.latent_layout.entries]
        given = temperature if isinstance(temperature, Mapping) else {names[0]: temperature}
        for name, value in given.items():
            if name not in names:
                raise ConfigError(f"temperature: {unknown_message('latent', name, names)}")
            if not 0 <= value < math.inf:
                raise ConfigError(f"temperature must be at least 0, got {value:g}")
        return temperature

    def _checked_levels(self, levels: int | None) -> int:
        """Validates a number of latents, counted from the top.

        Raises:
            ConfigError: there are not so many.
        """
        count = len(self.latent_layout.entries)
        if levels is not None and not 1 <= levels <= count:
            raise ConfigError(f"levels must be 1 to {count}, the number of latents of '{self.name}', got {levels}")
        return count if levels is None else levels
