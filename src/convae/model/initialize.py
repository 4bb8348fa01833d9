"""Weight initialization of a model.

Weights are normal with standard deviation gain / √fan_in (He et al. 2015, arXiv:1502.01852), with the gain measured
for each activation, so that activations keep a mean square of 1. Biases are 0, the weights of norms are 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from convae.core.random import torch_generator
from convae.model.bottlenecks.base import Bottleneck
from convae.model.condition import Condition
from convae.model.layers.base import Activation, Layer
from convae.model.layers.base.network import Network
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.priors.base import Prior


@torch.no_grad()
def initialize(model: nn.Module, seed: int, device: torch.device | str = "cpu") -> None:
    """Allocates and initializes every parameter and buffer of a model.

    Args:
        model: a module made of networks, a bottleneck and a likelihood head, on the meta device.
        seed: seed; a tensor's values depend only on it and on the module's name.
        device: device of the model; values are drawn on the CPU, so they are the same on every device.
    """
    # As `to_empty`, which imports sympy for tensors on the meta device.
    model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))  # noqa: SLF001
    for name, module in model.named_modules():
        if isinstance(module, Layer | LikelihoodHead | Condition | Prior):
            module.reset(torch_generator(seed, "reset", name))
    scales = dict(_scales(model))
    for name, module in model.named_modules():
        generator = torch_generator(seed, "weights", name)
        if isinstance(module, Layer):
            _initialize_layer(module, scales.get(name, 1.0), generator)
        if isinstance(module, Bottleneck):
            module.reset(generator)


def _scales(model: nn.Module) -> Iterator[tuple[str, float]]:
    """The gain of each layer of each list, by module name: from the activation before it and the `init_scale`."""
    for name, network in model.named_modules():
        if not isinstance(network, Network):
            continue
        weighted = [
            index
            for index, layer in enumerate(network)
            if any(True for _ in layer.parameters()) and not isinstance(layer, Activation)
        ]
        gain = 1.0
        for index, layer in enumerate(network):
            if isinstance(layer, Activation):
                gain = layer.gain()
                continue
            yield f"{name}.{index}".removeprefix("."), gain * (network.init_scale if weighted[-1:] == [index] else 1.0)
            if index in weighted:
                # A layer with weights restores a mean square of 1.
                gain = 1.0


def _initialize_layer(layer: Layer, gain: float, generator: torch.Generator) -> None:
    """Initializes a layer's weight and bias, if it has them."""
    weight, bias, fan_in = getattr(layer, "weight", None), getattr(layer, "bias", None), layer.fan_in()
    if isinstance(weight, nn.Parameter):
        if fan_in is None:
            weight.fill_(1)
        else:
            weight.copy_(torch.randn(weight.shape, generator=generator) * (gain / math.sqrt(fan_in)))
    if isinstance(bias, nn.Parameter):
        bias.zero_()
