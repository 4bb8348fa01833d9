"""The forward context: what a pass carries besides its tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from convae.core.noise import CountedNoise, Generators
from convae.core.posterior import Posterior
from convae.core.types import PerImage


@dataclass
class Context:
    """What one forward pass carries besides its tensor: noise, labels, and what layers report.

    A layer that derives from `ContextLayer` gets the context of the pass that it is in; all other layers do not.

    Attributes:
        noise: what random layers draw from; torch's default generator without it.
        labels: (batch,) class numbers of the images; None without labels.
        latent_source: whether latents are samples of their posterior, or its mean.
        given: latents by name, taken in place of those of the posterior.
        terms: costs that layers reported by name, (batch,) each, unweighted.
        posteriors: q(z | x) of each latent, by its name.
        latents: the latents that were passed on, by name.
    """

    noise: Generators | None = None
    labels: Tensor | None = None
    latent_source: Literal["posterior", "mean"] = "mean"
    given: Mapping[str, Tensor] = field(default_factory=dict)
    terms: dict[str, PerImage] = field(default_factory=dict)
    posteriors: dict[str, Posterior] = field(default_factory=dict)
    latents: dict[str, Tensor] = field(default_factory=dict)

    def noise_for(self, name: str) -> Generators | None:
        """The noise of the layer of that name: a stream of its own where noise is counter-based."""
        return self.noise.named(name) if isinstance(self.noise, CountedNoise) else self.noise

    def draw_latent(self, name: str, posterior: Posterior) -> Tensor:
        """The latent of that name, (batch, *latent): given, a sample of its posterior, or its mean; reports both."""
        if name in self.given:
            latent = self.given[name]
        elif self.latent_source == "posterior":
            latent = posterior.sample(self.noise_for(name))
        else:
            latent = posterior.mean
        self.report_latent(name, posterior, latent)
        return latent

    def report_latent(self, name: str, posterior: Posterior, latent: Tensor) -> None:
        """Records a latent and its posterior.

        Args:
            name: unique in the model.
            posterior: q(z | x) of each image.
            latent: (batch, *latent), passed on to the next layer.
        """
        self.posteriors[name], self.latents[name] = posterior, latent

    def report_term(self, name: str, cost: PerImage) -> None:
        """Adds a cost, (batch,), unweighted, to the term of that name; the objective weighs it.

        Layers that report the same name add up.
        """
        self.terms[name] = self.terms[name] + cost if name in self.terms else cost


class ContextModule(nn.Module):
    """A module whose `forward` takes the context of the pass besides its tensor; None stands for `Context()`.

    Attributes:
        stream: name of its noise and of the latent that it reports, unique in a model.
    """

    stream: str = ""

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, …) to (batch, …)."""
        raise NotImplementedError


def call_module(module: nn.Module, x: Tensor, context: Context | None) -> Tensor:
    """`module(x)`, with the context where the module takes one."""
    result: Tensor = module(x, context) if isinstance(module, ContextModule) else module(x)
    return result
