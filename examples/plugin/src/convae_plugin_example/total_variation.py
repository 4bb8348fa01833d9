from typing import ClassVar

from torch import Tensor

from convae.objective.terms.base import Pass, Term


class TotalVariation(Term):
    """Sum of the absolute differences of neighboring values of the reconstruction (Rudin et al. 1992)."""

    unit: ClassVar = "image units"

    def forward(self, given: Pass) -> Tensor:
        image = given.reconstruction
        return sum(image.diff(dim=axis).abs().flatten(1).sum(1) for axis in range(2, image.ndim))
