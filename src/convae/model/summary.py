"""What a model is made of, layer by layer: shapes, parameters, operations, receptive field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convae.core.types import Shape
from convae.model.layers.base import Reach, joined
from convae.model.layers.base.network import Network, count_parameters
from convae.model.vae import VAE


@dataclass(frozen=True)
class Row:
    """One layer of a model.

    Attributes:
        part: `condition`, `encoder`, `bottleneck`, `decoder` or `classifier`.
        layer: as written in the list; what a condition joins.
        shape: (channels, *sizes) that it gives.
        parameters: how many it has.
        flops: floating-point operations of the forward pass for one image, two for each multiply-add; convolutions
            and matrix products only, which is where nearly all of them are.
        field: how many positions of the image, along each axis, one position of the output sees; infinite when
            it sees all, empty behind the bottleneck, where positions are no longer those of the image.
    """

    part: str
    layer: str
    shape: Shape
    parameters: int
    flops: int
    field: tuple[float, ...]


def summary(model: VAE) -> list[Row]:
    """One row for each layer, in the order in which an image passes them, behind those of a condition."""
    with torch.device("meta"), torch.no_grad():
        copy = VAE(model.spec).eval()
    rows = []
    if (condition := copy.condition) is not None:
        what = f"{condition.classes} classes with the"
        rows.append(Row("condition", f"{what} image", copy.encoder.shape_in, count_parameters(condition), 0, ()))
        rows.append(Row("condition", f"{what} latent", copy.decoder.shape_in, 0, 0, ()))
    rows += _network_rows(copy.encoder, "encoder")
    features = torch.empty(1, *copy.encoder.shape_out, device="meta")
    (name,) = copy.spec.bottleneck if isinstance(copy.spec.bottleneck, dict) else (copy.spec.bottleneck,)
    flops = _flops(copy.bottleneck, features, None, False)
    rows.append(Row("bottleneck", str(name), copy.latent_shape, count_parameters(copy.bottleneck), flops, ()))
    rows += _network_rows(copy.decoder, "decoder")
    return [*rows, *(_network_rows(copy.classifier, "classifier") if copy.classifier else ())]


def _network_rows(network: Network, part: str) -> Iterator[Row]:
    shape = network.shape_in
    reaches: list[Reach | None] = []
    for layer, item, after in zip(network, network.specs, network.shapes, strict=True):
        reaches.append(layer.reach())
        reach = joined(reaches)
        flops = _flops(layer, torch.empty(1, *shape, device="meta"))
        field = reach.kernel if reach else (1.0,) * (len(network.shape_in) - 1)
        yield Row(part, str(item), after, count_parameters(layer), flops, field if part == "encoder" else ())
        shape = after


def _flops(module: nn.Module, *inputs: Any) -> int:
    """Operations of one pass, counted by running it on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops())
