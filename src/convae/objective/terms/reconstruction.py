"""How badly the decoder's belief explains the image."""

from __future__ import annotations

from convae.core.types import Images, OutputLike, PerImage
from convae.objective.terms.base import Term


class Reconstruction(Term):
    """−log p(x | z) under the model's likelihood, summed over the image's values, nats per image."""

    def forward(self, x: Images, output: OutputLike) -> PerImage:
        """The negative log-likelihood of each image."""
        return -output.likelihood.log_prob(x)
