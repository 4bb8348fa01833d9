"""Model summary: shape, parameters, FLOPs and receptive field of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convae.core.context import Context, LatentModule, call_module
from convae.core.description import LayerKind, LayerSpec
from convae.core.names import count_text, flow_repr
from convae.core.types import Shape
from convae.model.construct import construct
from convae.model.layers.base.layer import ReceptiveField, compose, copy_to_meta
from convae.model.layers.base.network import Network, count_parameters
from convae.model.vae import VAE

_IMPLIED_BY_SHAPE = ("channels", "features", "to", "output_padding")
"""Arguments that the output shape shows."""


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a model.

    Attributes:
        part: `condition`, `encoder`, `bottleneck`, `prior`, `decoder`, `likelihood` or `classifier`.
        layer: as written in the list; what a condition joins.
        label: its name, with the arguments that its shape does not tell, for drawings.
        kind: what it does with sizes, and whether it has parameters.
        shape: (channels, *sizes) that it gives.
        parameters: how many it has.
        flops: floating-point operations of the forward pass for one image, two for each multiply-add; convolutions
            and matrix products only, which is where nearly all of them are.
        receptive_field: how many positions of the image, along each axis, one position of the output sees; infinite
            when it sees all, empty behind the bottleneck, where positions are no longer those of the image.
    """

    part: str
    layer: str
    label: str
    kind: LayerKind
    shape: Shape
    parameters: int = 0
    flops: int = 0
    receptive_field: tuple[float, ...] = ()


def summarize(model: VAE) -> list[LayerSummary]:
    """The layers of a model in forward order, after the rows of a condition."""
    with torch.device("meta"), torch.no_grad():
        copy = construct(spec := model.spec).eval()
    rows, networks = [], copy.networks
    if (condition := copy.condition) is not None:
        counts = (
            ("image", networks["encoder"].shape_in, count_parameters(condition)),
            ("latent", networks["decoder"].shape_in, 0),
        )
        for joined_to, shape, parameters in counts:
            text = f"{count_text(condition.classes, 'class')} with the {joined_to}"
            kind = _kind_of(shape, shape, parameters)
            rows.append(LayerSummary("condition", text, text, kind, shape, parameters))
    context = Context()
    rows += _summarize_network(networks["encoder"], "encoder", context)
    features = torch.empty(1, *networks["encoder"].shape_out, device="meta")
    name = _written(spec.bottleneck).name
    flops = _count_flops(copy.bottleneck, features, Context())
    parameters = count_parameters(copy.bottleneck)
    rows.append(LayerSummary("bottleneck", name, name, "latent", copy.bottleneck.latent_shape, parameters, flops))
    prior = _written(spec.prior or copy.bottleneck.default_prior)
    parameters = count_parameters(copy.prior)
    rows.append(LayerSummary("prior", str(prior), _label(prior), "latent", copy.prior.latent_shape, parameters))
    rows += _summarize_network(networks["decoder"], "decoder", context)
    head, shape, parameters = _written(spec.likelihood), copy.input_shape, count_parameters(copy.head)
    kind = _kind_of(shape, shape, parameters)
    rows.append(LayerSummary("likelihood", str(head), _label(head), kind, shape, parameters))
    return [
        *rows,
        *(_summarize_network(networks["classifier"], "classifier", context) if "classifier" in networks else ()),
    ]


def _written(piece: Any) -> LayerSpec:
    """A bottleneck, a prior or a likelihood as a description has it, in the form of a layer."""
    ((name, arguments),) = piece.items() if isinstance(piece, Mapping) else ((piece, {}),)
    return LayerSpec(name, arguments or {})


def _summarize_network(network: Network, part: str, context: Context) -> Iterator[LayerSummary]:
    shape = network.shape_in
    fields: list[ReceptiveField | None] = []
    for layer, spec, after in zip(network, network.specs, network.shapes, strict=True):
        fields.append(layer.receptive_field())
        composed = compose(fields)
        field = composed.kernel if composed else (1.0,) * (len(network.shape_in) - 1)
        parameters = count_parameters(layer)
        yield LayerSummary(
            part=part,
            layer=str(spec),
            label=_label(spec),
            kind="latent" if isinstance(layer, LatentModule) else _kind_of(shape, after, parameters),
            shape=after,
            parameters=parameters,
            flops=_count_flops(layer, torch.empty(1, *shape, device="meta"), context),
            receptive_field=field if part == "encoder" else (),
        )
        shape = after


def _kind_of(before: Shape, after: Shape, parameters: int) -> LayerKind:
    """The kind of a layer between two shapes."""
    if len(after) == 1:
        return "vector"
    if not parameters:
        return "parameter-free"
    return "size-keeping" if after[1:] == before[1:] else "resizing"


def _label(spec: LayerSpec) -> str:
    """`conv kernel 5×3, stride 2`; of a list inside a layer, the names: `residual of silu, conv`."""
    details, inner = [], []
    for key, value in spec.arguments.items():
        if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            inner += [next(iter(layer)) for layer in value]
        elif isinstance(value, list) and key not in _IMPLIED_BY_SHAPE:
            details.append(f"{key} {'×'.join(map(str, value))}")
        elif key not in _IMPLIED_BY_SHAPE and not isinstance(value, Mapping):
            details.append(f"{key} {flow_repr(value)}")
    return " ".join([spec.name, *filter(None, [", ".join(details), f"of {', '.join(inner)}" * bool(inner)])])


def describe_flops(part: str, model: VAE, smaller: VAE) -> str:
    """The FLOPs of a part in two models: `decoder 1,234.0 MFLOPs per image, here 100.2 (12.3 times fewer)`."""
    large, small = (network_flops(each.networks[part]) for each in (model, smaller))
    return (
        f"{part} {large / 1e6:,.1f} MFLOPs per image, here {small / 1e6:,.1f} ({large / max(small, 1):.1f} times fewer)"
    )


def network_flops(network: Network) -> int:
    """FLOPs of a network for one image, two for each multiply-add; of convolutions and matrix products only."""
    kind = next((each.dtype for each in network.parameters()), None)
    images = torch.empty(1, *network.shape_in, device="meta", dtype=kind)
    with torch.no_grad():
        copy = copy_to_meta(network).eval()
    return _count_flops(copy, images, Context())


def _count_flops(module: nn.Module, x: Tensor, context: Context) -> int:
    """FLOPs of one forward pass, counted on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call_module(module, x, context)
    return int(counter.get_total_flops())
