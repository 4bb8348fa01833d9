"""Exported graphs of reduced precision: the images that they are calibrated on, and what they lose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.interop.graphs import build_graph, example_inputs
from convae.model.vae import VAE

ExportPrecisionName = Literal["float32", "float16", "int8"]
FEWEST_IMAGES = 8
"""Smallest number of images for a calibration."""


@dataclass(frozen=True)
class ExportPrecision:
    """The precision of exported graphs.

    Attributes:
        name: `float32`; `float16`; or `int8`, static, with ranges of activations from `images`. Inputs and outputs are
            float32 in all of them.
        images: (image, channel, *sizes) in [0, 1], on which the loss is measured; unused for `float32`.
        labels: class numbers of the images, for a conditional model.
    """

    name: ExportPrecisionName = "float32"
    images: Tensor | None = field(default=None, repr=False)
    labels: Tensor | None = field(default=None, repr=False)

    def inputs(self, model: VAE, graph: str) -> dict[str, Tensor]:
        """Inputs of a graph for the images: themselves, their posterior means or codes, or noise.

        Raises:
            ConfigError: there are not enough images, or a conditional model has no labels.
        """
        if self.images is None or len(self.images) < FEWEST_IMAGES:
            count = 0 if self.images is None else len(self.images)
            raise ConfigError(f"{self.name}: needs at least {FEWEST_IMAGES} images, got {count}")
        if model.condition is not None and self.labels is None:
            raise ConfigError(f"{self.name}: model '{model.name}' is conditional, and the images have no labels")
        labels = self.labels if model.condition is not None else None
        return example_inputs(model, graph, self.images, labels)


@dataclass(frozen=True)
class Quality:
    """What a graph of reduced precision loses.

    Attributes:
        psnr: peak signal-to-noise ratio of its images to those of float32, dB; those of `encode` are decoded in
            float32.
        psnr_loss: PSNR of the reconstructions in float32 minus that with the graph, dB; None for `sample`.
        count: number of images.
    """

    psnr: float
    psnr_loss: float | None
    count: int


@torch.no_grad()
def measure_quality(
    model: VAE, graph: str, precision: ExportPrecision, run: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> Quality:
    """Compares a graph of reduced precision with the model.

    Args:
        model: on the CPU, in float32.
        graph: name of the graph.
        precision: with the images.
        run: the graph.
    """
    inputs = precision.inputs(model, graph)
    built = build_graph(model, graph)
    expected = dict(zip(built.outputs, built.module(*inputs.values()), strict=True))
    pictures = [_picture(model, graph, outputs, precision) for outputs in (expected, run(inputs))]
    assert precision.images is not None  # checked by `inputs`
    loss = None
    if graph != "sample":
        before, after = (_psnr(picture, precision.images) for picture in pictures)
        loss = before - after
    return Quality(_psnr(pictures[1], pictures[0]), loss, len(precision.images))


def _picture(model: VAE, graph: str, outputs: Mapping[str, Tensor], precision: ExportPrecision) -> Tensor:
    """The images that a graph returns, or that its latents are decoded to."""
    if graph == "encode":
        labels = precision.labels if model.condition is not None else None
        return model.decode(outputs["mean"], labels).mean
    return outputs["reconstruction" if graph == "reconstruct" else "image"]


def _psnr(found: Tensor, expected: Tensor) -> float:
    """PSNR of images in [0, 1], dB; infinite if they are equal."""
    error = (found.double() - expected.double()).square().mean()
    return float(-10 * error.log10())
