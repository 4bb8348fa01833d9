"""MS-SSIM loss."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from convae.core.types import PerImage
from convae.objective.similarity import SCALE_WEIGHTS, ms_ssim
from convae.objective.terms.base import LossInputs, Term


class MSSSIM(Term):
    """1 − MS-SSIM of image and reconstruction, in [0, 1].

    Wang, Simoncelli & Bovik 2003 (doi:10.1109/ACSSC.2003.1292216), with a data range of 1.

    Args:
        scales: number of scales, each with half the resolution; n scales need sizes of at least 11·2^(n−1) pixels:
            176 for five, 44 for three.
    """

    unit: ClassVar = "1 − MS-SSIM"
    example: ClassVar = {"scales": 1}

    def __init__(self, *, scales: Annotated[int, Field(ge=1, le=len(SCALE_WEIGHTS))] = len(SCALE_WEIGHTS)) -> None:
        super().__init__()
        self.scales = scales

    def forward(self, inputs: LossInputs) -> PerImage:
        """1 − MS-SSIM of each image."""
        return 1 - ms_ssim(inputs.images, inputs.reconstruction, scales=self.scales)
