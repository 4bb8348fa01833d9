"""Structural dissimilarity."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.similarity import ssim
from convae.objective.terms.base import LossInputs, Term


class SSIM(Term):
    """1 − SSIM of image and expected image, in [0, 2] (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

    The data range is always 1 and the window a Gaussian, 11 wide with a sigma of 1.5; images of any size.
    """

    unit: ClassVar = "1 − SSIM"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The dissimilarity of each image."""
        return 1 - ssim(inputs.images, inputs.reconstruction)
