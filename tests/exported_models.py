"""Small models with each entry of the registries, as graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.interop import graph_names
from convae.interop.graphs import Graph, build_graph
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.initialize import initialize
from convae.model.layers import LAYERS
from convae.model.layers.base.features import feature_shapes
from convae.model.layers.base.network import Network
from convae.model.likelihoods import LIKELIHOODS
from convae.model.priors import PRIORS
from convae.model.quantizers import QUANTIZERS
from convae.model.vae import VAE

MAP: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    "likelihood": "bernoulli",
}
SHORTER: dict[str, dict[str, Any]] = {"flow-matching": {"steps": 1}, "von-mises-fisher": {"latent": 96}}
"""Arguments with which loops, which a graph holds step by step, have few steps."""
VECTOR = {
    **MAP,
    "encoder": ["flatten"],
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}


def built(**changes: Any) -> VAE:
    return convae.build({**MAP, **changes}).eval()


def with_prior(name: str) -> VAE:
    """A model with a prior, over the first latent that it accepts."""
    entry, faults = {name: {**PRIORS.get(name).example, **SHORTER.get(name, {})}}, []
    for changes in (
        VECTOR,
        {**MAP, "bottleneck": {"vq": {"codes": 5, "latent": 3}}},
        {**VECTOR, "bottleneck": {"von-mises-fisher": {"latent": 3}}},
    ):
        try:
            return convae.build({**changes, "prior": entry}).eval()
        except ConfigError as error:
            faults.append(str(error))
    raise AssertionError(f"prior {name}: {faults}")


def with_bottleneck(name: str) -> VAE:
    """A model with a bottleneck, of a map or of a vector."""
    entry = {name: {**BOTTLENECKS.get(name).example, **SHORTER.get(name, {})}}
    try:
        return built(bottleneck=entry)
    except ShapeError:
        return convae.build({**VECTOR, "bottleneck": entry}).eval()


def with_quantizer(name: str) -> VAE:
    entry = {name: dict(QUANTIZERS.get(name).example)}
    try:
        return built(bottleneck={"codes": {"quantizer": entry}})
    except ConfigError:
        return built(bottleneck={"codes": {"quantizer": entry, "latent": 6}})


def with_likelihood(name: str) -> VAE:
    kind = LIKELIHOODS.get(name)
    raw = kind(**kind.example).raw_channels(1)
    decoder = [{"conv-transpose": {"channels": raw, "stride": 2}}]
    return built(likelihood={name: dict(kind.example)}, decoder=decoder)


class UntilSmall(nn.Module):
    """Halves its input until it is small: a loop that depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.abs().max() > 1):
            x = x / 2
        return x


def with_loop() -> VAE:
    """A model whose encoder cannot be exported."""
    model = built()
    encoder = nn.Sequential(UntilSmall(), model.encoder)
    return VAE(encoder, model.bottleneck, model.decoder, model.head, input_shape=model.input_shape).eval()


class Apart(nn.Module):
    """A layer by itself, with the features that it takes."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        return (self.network(*inputs),)


def of_layer(name: str) -> Graph:
    kind = LAYERS.get(name)
    shape = kind.example_shape
    with feature_shapes({"example": shape} if "feature" in kind.example else {}):
        network = Network(shape, [{name: dict(kind.example)}], "layers")
    initialize(network, 0)
    x = torch.randn(2, *shape, generator=torch_generator(0, name))
    return Graph(name, Apart(network.eval()), {"x": x}, ("y",))


def every_graph() -> dict[str, Graph]:
    """The graphs that each entry of the registries changes."""
    graphs = {f"layer {name}": of_layer(name) for name in LAYERS.own_names()}
    models = [
        *((f"likelihood {name}", with_likelihood(name), ["decode"]) for name in LIKELIHOODS.own_names()),
        *((f"prior {name}", with_prior(name), ["sample"]) for name in PRIORS.own_names()),
        *((f"quantizer {name}", with_quantizer(name), ["encode", "decode-codes"]) for name in QUANTIZERS.own_names()),
    ]
    for name in BOTTLENECKS.own_names():
        models.append((f"bottleneck {name}", with_bottleneck(name), ["encode"]))
    for key, model, names in models:
        own = set(graph_names(model))
        graphs |= {f"{key} {name}": build_graph(model, name) for name in names if name in own}
    return graphs
