"""Every initial value of a model, in one place.

Weights are normal, scaled so that values keep a mean square of one on their way through the network: by the number
of inputs that meet in one output, and by what the activation in front of the layer leaves of a standard normal
(He et al. 2015, arXiv:1502.01852, with the gain measured for each activation). Biases are zero, gains are one.
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
    """Gives every parameter and buffer of a model storage and its initial value.

    Args:
        model: a module made of networks, a bottleneck and a likelihood head, on the meta device.
        seed: each tensor's values are a function of this and of the module's name alone.
        device: where the values live; they are drawn on the CPU, so they are the same on every device.
    """
    model.to_empty(device=device)
    for name, module in model.named_modules():
        if isinstance(module, Layer | LikelihoodHead | Condition | Prior):
            module.reset(torch_generator(seed, "reset", name))
    scales = dict(_scales(model))
    for name, module in model.named_modules():
        generator = torch_generator(seed, "weights", name)
        if isinstance(module, Layer):
            _values(module, scales.get(name, 1.0), generator)
        if isinstance(module, Bottleneck):
            module.reset(generator)


def _scales(model: nn.Module) -> Iterator[tuple[str, float]]:
    """By how much the weights of each layer of a list are larger than the number of inputs alone would make them."""
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
                # Its own weights, norms or inner layers bring the values back to a mean square of one.
                gain = 1.0


def _values(layer: Layer, gain: float, generator: torch.Generator) -> None:
    """One layer's weight and bias, where it has them."""
    weight, bias, fan_in = getattr(layer, "weight", None), getattr(layer, "bias", None), layer.fan_in()
    if isinstance(weight, nn.Parameter):
        if fan_in is None:
            weight.fill_(1)
        else:
            weight.copy_(torch.randn(weight.shape, generator=generator) * (gain / math.sqrt(fan_in)))
    if isinstance(bias, nn.Parameter):
        bias.zero_()
