"""The forward context: what a pass carries besides its tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from convae.core.noise import CountedNoise, Generators, repeat_noise
from convae.core.posterior import Posterior
from convae.core.types import PerImage, Shape


@dataclass
class Context:
    """What one forward pass carries besides its tensor: noise, labels, and what layers report.

    A layer that derives from `ContextLayer` gets the context of the pass that it is in; all other layers do not.

    Attributes:
        noise: what random layers draw from; torch's default generator without it.
        labels: (batch,) class numbers of the images; None without labels.
        latent_source: whether latents are samples of their posterior, its mean, or samples of the prior. Without the
            encoder's features, as in decoding, the prior takes the place of the posterior.
        given: latents by name, taken in place of those of posterior and prior.
        temperature: factor on the standard deviation of latents drawn from a prior; one for all, or by name.
        features: the encoder's features that have a name, (batch, channel, *sizes) each.
        terms: costs that layers reported by name, (batch,) each, unweighted.
        term_parts: the costs of each term by the layer that reported them.
        posteriors: q(z | x) of each latent, by its name.
        latents: the latents that were passed on, by name.
        samples: number of latents drawn for each image: rows of one image stand together in the batch.
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
        """The noise of the layer of that name: a stream of its own where noise is counter-based."""
        return self.noise.named(name) if isinstance(self.noise, CountedNoise) else self.noise

    def unit_noise_for(self, name: str) -> Generators | None:
        """The same, of standard deviation 1 whatever the temperature of the latents."""
        noise = self.noise_for(name)
        return replace(noise, scale=1.0) if isinstance(noise, CountedNoise) else noise

    def temperature_of(self, name: str) -> float:
        """The temperature of a latent; 1 where none is given by name."""
        return self.temperature if isinstance(self.temperature, int | float) else self.temperature.get(name, 1.0)

    def draw_latent(self, name: str, posterior: Posterior) -> Tensor:
        """The latent of that name, (batch, *latent): given, a sample of its posterior, or its mean; reports both."""
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
            name: unique in the model.
            latent: (batch, *latent), passed on to the next layer.
            posterior: q(z | x) of each image; None where the latent was given or drawn from the prior.
        """
        self.latents[name] = latent
        if posterior is not None:
            self.posteriors[name] = posterior

    def report_term(self, name: str, cost: PerImage, source: str | None = None) -> None:
        """Adds a cost, (batch,), unweighted, to the term of that name; the objective weighs it.

        Layers that report the same name add up.

        Args:
            name: of the term.
            cost: (batch,).
            source: stream of the layer, for the log of a term that several layers report.
        """
        self.terms[name] = self.terms[name] + cost if name in self.terms else cost
        if source is not None:
            self.term_parts.setdefault(name, {})[source] = cost

    def again(self, **changes: Any) -> Context:
        """The same pass, to be computed again: with the features so far, without what layers reported.

        Args:
            changes: attributes with other values.
        """
        return replace(
            self, features=dict(self.features), terms={}, term_parts={}, posteriors={}, latents={}, **changes
        )

    def continued(self, **changes: Any) -> Context:
        """The same pass, to be continued from here several times: with what layers reported so far.

        Args:
            changes: attributes with other values.
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
        """The same pass from here on with every image `samples` times in a row, each with noise of its own."""

        def rows(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: each.repeat_interleave(samples, 0) for name, each in named.items()}

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
    """A module whose `forward` takes the context of the pass besides its tensor; None stands for `Context()`.

    Attributes:
        stream: name of its noise and of the latent that it reports, unique in a model.
    """

    stream: str = ""

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, …) to (batch, …)."""
        raise NotImplementedError


class LatentModule(ContextModule):
    """A module that has a latent, which it reports to the context under the name `stream`.

    Attributes:
        latent_shape: shape of the latent, without the batch.
        is_discrete: whether the latents are codes.
        is_diagonal: whether the posterior is a Gaussian with independent values, which mean and log-variance determine;
            codes are none.
        has_density: whether the posterior spreads its mass; a deterministic one does not.
        is_spherical: whether latents are unit vectors, whose densities are with respect to the area of the sphere.
    """

    latent_shape: Shape
    is_discrete: bool = False
    is_diagonal: bool = True
    has_density: bool = True
    is_spherical: bool = False

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
        """The nearest latents to `z`, (batch, *latent), that the module can give: `z` itself without codes."""
        return z


def call_module(module: nn.Module, x: Tensor, context: Context | None) -> Tensor:
    """`module(x)`, with the context where the module takes one."""
    result: Tensor = module(x, context) if isinstance(module, ContextModule) else module(x)
    return result
