"""The forward context: noise, labels and reported terms of a forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from convae.core.layout import repeat_rows
from convae.core.noise import CountedNoise, Generators, named_noise, repeat_noise
from convae.core.posterior import Posterior
from convae.core.types import PerImage, Shape


@dataclass
class Context:
    """State of one forward pass besides its tensor: noise, labels, and the terms and latents that layers report.

    Only layers derived from `ContextLayer` get it.

    Attributes:
        noise: source of noise of random layers; None for torch's default generator.
        labels: (batch,) class numbers of the images; None without labels.
        latent_source: whether latents are samples of their posterior, its mean, or samples of the prior. Without
            features of the encoder, as in decoding, the prior replaces the posterior.
        given: latents by name that replace those of posterior and prior.
        temperature: factor on the standard deviation of latents drawn from a prior; one for all, or by name.
        features: named features of the encoder, (batch, channel, *sizes) each.
        terms: reported costs by term, (batch,) each, unweighted.
        term_parts: reported costs of each term by layer.
        posteriors: q(z | x) of each latent by name.
        latents: latents by name.
        samples: number of latents drawn for each image; the rows of an image are consecutive in the batch.
    """

    noise: Generators | None = None
    labels: Tensor | None = None
    latent_source: Literal["posterior", "mean", "prior"] = "mean"
    given: Mapping[str, Tensor] = field(default_factory=dict)
    temperature: float | Mapping[str, float] = 1.0
    features: dict[str, Tensor] = field(default_factory=dict)
    terms: dict[str, PerImage] = field(default_factory=dict)
    term_parts: dict[str, dict[str, PerImage]] = field(default_factory=dict)
    posteriors: dict[str, Posterior] = field(default_factory=dict)
    latents: dict[str, Tensor] = field(default_factory=dict)
    samples: int = 1

    def noise_for(self, name: str) -> Generators | None:
        """The noise of a layer: if noise is counter-based, a stream of its own."""
        return named_noise(self.noise, name)

    def unit_noise_for(self, name: str) -> Generators | None:
        """The same with standard deviation 1, whatever the temperature."""
        noise = self.noise_for(name)
        return replace(noise, scale=1.0) if isinstance(noise, CountedNoise) else noise

    def temperature_of(self, name: str) -> float:
        """The temperature of a latent by name, 1 by default."""
        return self.temperature if isinstance(self.temperature, int | float) else self.temperature.get(name, 1.0)

    def draw_latent(self, name: str, posterior: Posterior) -> Tensor:
        """A latent, (batch, *latent): given, a sample of its posterior, or its mean. Reports latent and posterior."""
        if name in self.given:
            latent = self.given[name]
        elif self.latent_source == "posterior":
            latent = posterior.sample(self.noise_for(name))
        else:
            latent = posterior.mean
        self.report_latent(name, latent, posterior)
        return latent

    def report_latent(self, name: str, latent: Tensor, posterior: Posterior | None = None) -> None:
        """Records a latent and its posterior.

        Args:
            name: name of the latent, unique in the model.
            latent: (batch, *latent).
            posterior: q(z | x) of each image; None if the latent was given or drawn from the prior.
        """
        self.latents[name] = latent
        if posterior is not None:
            self.posteriors[name] = posterior

    def report_term(self, name: str, cost: PerImage, source: str | None = None) -> None:
        """Adds a cost to a term; costs of several layers are summed.

        Args:
            name: name of the term.
            cost: (batch,), unweighted.
            source: stream of the layer, to log the costs of several layers separately.
        """
        self.terms[name] = self.terms[name] + cost if name in self.terms else cost
        if source is not None:
            self.term_parts.setdefault(name, {})[source] = cost

    def again(self, **changes: Any) -> Context:
        """A context to compute the pass again: with its features, without reported terms and latents.

        Args:
            changes: attributes to replace.
        """
        return replace(
            self, features=dict(self.features), terms={}, term_parts={}, posteriors={}, latents={}, **changes
        )

    def continued(self, **changes: Any) -> Context:
        """A copy to continue the pass from here, possibly several times: with what layers reported so far.

        Args:
            changes: attributes to replace.
        """
        parts = {name: dict(own) for name, own in self.term_parts.items()}
        fresh = self.again(**changes)
        return replace(
            fresh,
            terms=dict(self.terms),
            term_parts=parts,
            posteriors=dict(self.posteriors),
            latents=dict(self.latents),
        )

    def repeated(self, samples: int) -> Context:
        """A copy to continue the pass with every image repeated `samples` times in a row, each with its own noise."""

        def rows(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: repeat_rows(each, samples) for name, each in named.items()}

        fresh = self.continued(
            noise=repeat_noise(self.noise, samples),
            labels=None if self.labels is None else self.labels.repeat_interleave(samples, 0),
            samples=self.samples * samples,
        )
        return replace(
            fresh,
            features=rows(self.features),
            terms=rows(self.terms),
            term_parts={name: rows(own) for name, own in self.term_parts.items()},
        )


class ContextModule(nn.Module):
    """A module whose `forward` also takes the context of the pass; None means `Context()`.

    Attributes:
        stream: name of its noise and of the latent that it reports, unique in a model.
    """

    stream: str = ""

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, …) to (batch, …)."""
        raise NotImplementedError


class LatentModule(ContextModule):
    """A module with a latent, which it reports to the context under the name `stream`.

    Attributes:
        latent_shape: shape of the latent, without the batch.
        is_discrete: whether the latents are codes.
        is_diagonal: whether the posterior is a diagonal Gaussian, determined by mean and log-variance; False for codes.
        has_density: whether the posterior has a density; a deterministic one has none.
        is_spherical: whether latents are unit vectors, with densities with respect to the area of the sphere.
        is_mean_expected: whether the posterior mean is the expectation of latents drawn from the posterior.
    """

    latent_shape: Shape
    is_discrete: bool = False
    is_diagonal: bool = True
    has_density: bool = True
    is_spherical: bool = False
    is_mean_expected: bool = True

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level; empty without a codebook."""
        return ()

    @property
    def code_shape(self) -> Shape:
        """The shape of an image's codes: (*grid) with one codebook, (level, *grid) with several."""
        levels = len(self.codebook_sizes)
        return self.latent_shape[1:] if levels == 1 else (levels, *self.latent_shape[1:])

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Code indices, (batch, *code shape), to latents, (batch, *latent); only with a codebook."""
        raise NotImplementedError

    def nearest_codes(self, z: Tensor) -> Tensor:
        """The nearest code indices to latents, (batch, *latent), as (batch, *code shape); only with a codebook."""
        raise NotImplementedError

    def nearest_latents(self, z: Tensor) -> Tensor:
        """The nearest possible latents to `z`, (batch, *latent): `z` itself without codes."""
        return z


def call_module(module: nn.Module, x: Tensor, context: Context | None) -> Tensor:
    """Calls a module, with the context if it takes one."""
    result: Tensor = module(x, context) if isinstance(module, ContextModule) else module(x)
    return result
