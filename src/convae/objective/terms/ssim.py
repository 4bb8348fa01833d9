"""SSIM loss."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.similarity import ssim
from convae.objective.terms.base import LossInputs, Term


class SSIM(Term):
    """1 − SSIM of image and reconstruction, in [0, 2] (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

    Data range 1, Gaussian window of width 11 and sigma 1.5; images of any size.
    """

    unit: ClassVar = "1 − SSIM"

    def forward(self, inputs: LossInputs) -> PerImage:
        """1 − SSIM of each image."""
        return 1 - ssim(inputs.images, inputs.reconstruction)
