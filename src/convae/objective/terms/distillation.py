"""Distillation of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.types import Images, PerImage
from convae.model.inputs import unchecked_values
from convae.objective.terms._teacher import TeacherTerm
from convae.objective.terms.base import LossInputs

_SMALLEST = 1e-10
"""Mean squared error at which the PSNR ends, of equal images: 100 dB."""


class Distillation(TeacherTerm):
    """Distance of the reconstruction from that of a teacher for the same latents, summed over the image.

    Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531) of a decoder: the teacher is the model of `start`,
    frozen, and decodes the latents of the model. `convae distill` trains a smaller decoder with it. The validation also
    logs `psnr_to_teacher` and `psnr_to_image`, dB: means over the images.

    Args:
        distance: `squared` or `absolute` error of the means of p(x | z).
    """

    unit: ClassVar = "image units (squared)"

    def __init__(self, *, distance: Literal["squared", "absolute"] = "squared") -> None:
        super().__init__()
        self.distance = distance

    def forward(self, inputs: LossInputs) -> PerImage:
        """The distance of each image."""
        difference = inputs.reconstruction - self._target(inputs)
        values = difference.square() if self.distance == "squared" else difference.abs()
        return values.flatten(1).sum(1)

    @torch.no_grad()
    def measure(self, inputs: LossInputs) -> Mapping[str, PerImage]:
        """The PSNR of the reconstruction to that of the teacher, and to the image, dB."""
        found = {"psnr_to_teacher": _psnr(inputs.reconstruction, self._target(inputs))}
        if inputs.value_weights is None:
            found["psnr_to_image"] = _psnr(inputs.reconstruction, inputs.images)
        return found

    @torch.no_grad()
    def _target(self, inputs: LossInputs) -> Images:
        """The mean of the teacher's p(x | z)."""
        with unchecked_values():
            return self.teacher.decode(inputs.output.latent.detach(), inputs.labels).mean


def _psnr(x: Tensor, y: Tensor) -> PerImage:
    """Peak signal-to-noise ratio of each image for a range of 1, dB."""
    return -10 * (x - y).square().flatten(1).mean(1).clamp_min(_SMALLEST).log10()
