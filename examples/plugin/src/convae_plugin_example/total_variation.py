from typing import ClassVar

import torch
from torch import Tensor

from convae.objective import LossInputs, Term


class TotalVariation(Term):
    """Sum of the absolute differences of neighboring values of the reconstruction (Rudin et al. 1992)."""

    unit: ClassVar = "image units"

    def forward(self, inputs: LossInputs) -> Tensor:
        image = inputs.reconstruction
        return torch.stack([image.diff(dim=axis).abs().flatten(1).sum(1) for axis in range(2, image.ndim)]).sum(0)
