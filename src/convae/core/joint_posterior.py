"""The posterior of several latents, such as those of a hierarchy, and its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convae.core.noise import Generators
from convae.core.posterior import CodePosterior, Posterior
from convae.core.types import LatentLayout, Latents, PerImage


@dataclass(frozen=True)
class JointPosterior(Posterior):
    """Posterior of several latents, each given those above it: q(z₁ | x) q(z₂ | z₁, x) … (Sønderby et al. 2016).

    The distributions below the first depend on the values of the latents above, so `parts` are those along one path:
    the latents that were drawn, or the posterior means.

    Attributes:
        parts: the posterior of each latent by its name, from the top.
        draw: draws all latents, from the top down, (batch, size).
    """

    parts: Mapping[str, Posterior]
    draw: Callable[[Generators | None], Latents] = field(repr=False)

    @property
    def layout(self) -> LatentLayout:
        """How the latents form one tensor, (batch, size)."""
        return LatentLayout(tuple((name, tuple(part.mean.shape[1:])) for name, part in self.parts.items()))

    @property
    def mean(self) -> Latents:  # type: ignore[override]  # of the parts
        """(batch, size): the means along the path."""
        return self.layout.join({name: part.mean for name, part in self.parts.items()})

    @property
    def logvar(self) -> Latents:  # type: ignore[override]  # of the parts
        """(batch, size): the log-variances along the path."""
        return self.layout.join({name: part.logvar for name, part in self.parts.items()})

    @property
    def is_discrete(self) -> bool:
        """Whether all latents are codes."""
        return all(part.is_discrete for part in self.parts.values())

    @property
    def has_closed_kl(self) -> bool:
        """False: the divergences below the first depend on the path."""
        return False

    @property
    def has_density(self) -> bool:
        """Whether all latents have a density."""
        return all(part.has_density for part in self.parts.values())

    @property
    def codes(self) -> dict[str, Tensor]:
        """The codes of each latent that has a codebook, by its name; see `CodePosterior`."""
        return {name: part.codes for name, part in self.parts.items() if isinstance(part, CodePosterior)}

    def sample(self, generator: Generators | None = None) -> Latents:
        """One latent for each image, (batch, size), drawn from the top down."""
        return self.draw(generator)

    def kl(self) -> PerImage:
        """The sum over the latents, nats per image: with drawn latents, an unbiased estimate of the divergence."""
        return torch.stack([part.kl() for part in self.parts.values()]).sum(0)

    def kl_values(self) -> Latents | None:
        """The KL divergence of each latent value, (batch, size), nats; None where one of the latents is codes."""
        values = {name: part.kl_values() for name, part in self.parts.items()}
        known = {name: value for name, value in values.items() if value is not None}
        return self.layout.join(known) if len(known) == len(values) else None

    def log_prob(self, z: Latents) -> PerImage:
        """Log q(z | x), nats, of the latents of the path."""
        latents = self.layout.split(z)
        return torch.stack([part.log_prob(latents[name]) for name, part in self.parts.items()]).sum(0)

    def log_prior(self, z: Latents) -> PerImage:
        """Log p(z), nats, of the latents of the path."""
        latents = self.layout.split(z)
        return torch.stack([part.log_prior(latents[name]) for name, part in self.parts.items()]).sum(0)


def split_latent(posterior: Posterior, z: Latents) -> list[tuple[Posterior, Tensor]]:
    """The posterior of each latent with its values, from the top: of a single latent, itself with `z`."""
    if not isinstance(posterior, JointPosterior):
        return [(posterior, z)]
    latents = posterior.layout.split(z)
    return [(part, latents[name]) for name, part in posterior.parts.items()]


def split_posterior(posterior: Posterior) -> list[Posterior]:
    """The posterior of each latent, from the top: of a single latent, itself."""
    return list(posterior.parts.values()) if isinstance(posterior, JointPosterior) else [posterior]
