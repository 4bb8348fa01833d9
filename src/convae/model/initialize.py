"""Weight initialization of a model.

Weights are normal with standard deviation gain / √fan_in (He et al. 2015, arXiv:1502.01852), with the gain measured
for each activation, so that activations keep a mean square of 1; before batch norm they are smaller. Biases are 0, the
weights of norms are 1. If the mean of the images is known, the last bias of the decoder is such that reconstructions
start there: otherwise the last weights learn the background, and training stays on the plateau that follows. Measured
in `benchmarks/presets.md`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import nn
from torch.nn.utils import parametrize

from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.model.bottlenecks.base import Bottleneck
from convae.model.condition import Condition
from convae.model.layers.base import Activation, Layer
from convae.model.layers.base.network import Network
from convae.model.layers.batch_norm import BatchNorm
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.priors.base import Prior
from convae.model.vae import VAE

BATCH_NORM_SCALE = 0.1
"""Factor on weights whose output goes through batch norm. The output does not depend on it, but a step of Adam changes
smaller weights by a larger part, so that the first steps are as effective as with a higher learning rate. Not in
residual branches, which change by too much then."""
LOWEST_MEAN = 0.01
"""Lowest mean at which an output starts, and distance of the highest one from 1: no link is saturated there."""


@torch.no_grad()
def initialize(
    model: nn.Module,
    seed: int,
    device: torch.device | str = "cpu",
    image_mean: Sequence[float] | None = None,
) -> None:
    """Allocates and initializes every parameter and buffer of a model.

    Args:
        model: a module made of networks, a bottleneck and a likelihood head, on the meta device.
        seed: seed; a tensor's values depend only on it and on the module's name.
        device: device of the model; values are drawn on the CPU, so they are the same on every device.
        image_mean: mean of each channel of the images; None if unknown.

    Raises:
        ConfigError: a module of another package leaves values without initialization.
    """
    # As `to_empty`, which imports sympy for tensors on the meta device. NaN marks what is not initialized.
    model._apply(lambda tensor: _allocate(tensor, device))  # noqa: SLF001
    for name, module in reversed(list(model.named_modules())):
        _reset_torch_module(module, torch_generator(seed, "torch", name))
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
    if image_mean is not None and isinstance(model, VAE):
        start_at_mean(model, image_mean)
    _require_values(model)


def _allocate(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor like one on the meta device: floats are NaN, other values 0."""
    value = math.nan if tensor.is_floating_point() else 0
    return torch.full(tensor.shape, value, dtype=tensor.dtype, device=device)


def _reset_torch_module(module: nn.Module, generator: torch.Generator) -> None:
    """Initializes a module of torch, such as one inside of a layer of another package, as torch does.

    Values are drawn on the CPU. Of other modules, nothing is changed.
    """
    names = ("reset_parameters", "_reset_parameters")
    name = next((name for name in names if callable(getattr(module, name, None))), None)
    if name is None:
        return
    own = [*module.parameters(), *module.buffers()]
    on_cpu = module if all(each.device.type == "cpu" for each in own) else copy.deepcopy(module).cpu()
    with torch.random.fork_rng(devices=[]), parametrize.cached():
        torch.manual_seed(generator.initial_seed())
        getattr(on_cpu, name)()
        # Of a parametrization, such as weight norm, torch sets the cached result only.
        found = {key: getattr(on_cpu, key).clone() for key in getattr(on_cpu, "parametrizations", ())}
    for key, value in found.items():
        setattr(on_cpu, key, value)
    if on_cpu is not module:
        module.load_state_dict(on_cpu.state_dict())


def _require_values(model: nn.Module) -> None:
    """Checks that every value is registered, was initialized, and is saved in artifacts."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key not in ("_parameters", "_buffers", "_modules") and _holds_meta(value):
                where = ".".join(part for part in ("model", name, key) if part)
                raise ConfigError(
                    f"{where}: is not registered with its module. Use a parameter, register_buffer, "
                    "nn.ParameterList or nn.ModuleList"
                )
    saved = model.state_dict()
    for name, buffer in model.named_buffers():
        if buffer.numel() and name not in saved:
            raise ConfigError(f"model.{name}: would not be saved. Register the buffer with persistent=True")
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and tensor.isnan().any():
            raise ConfigError(
                f"model.{name}: is not initialized. Layers are made without values: set it in the method reset of its "
                "layer"
            )


def _holds_meta(value: object) -> bool:
    """Whether a value is or contains a tensor without values, on the meta device."""
    if isinstance(value, torch.Tensor):
        return value.is_meta
    if isinstance(value, nn.Module):
        return any(each.is_meta for each in itertools.chain(value.parameters(), value.buffers()))
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(map(_holds_meta, items))


@torch.no_grad()
def start_at_mean(model: VAE, image_mean: Sequence[float]) -> bool:
    """Sets the last bias of the decoder so that, with features of zero, its output is the mean of the images.

    Args:
        model: a model whose decoder is a network.
        image_mean: mean of each channel, in [0, 1].

    Returns:
        Whether the model has such a bias: the decoder ends with a layer with a bias, and invertible layers after it at
        most, and the likelihood knows its raw values for a mean.
    """
    mean = torch.tensor(image_mean).clamp(LOWEST_MEAN, 1 - LOWEST_MEAN)
    raw = model.head.raw_for(mean)
    if raw is None or not isinstance(model.decoder, Network):
        return False
    y = raw.view(1, -1, *(1,) * (len(model.input_shape) - 1)).expand(1, *model.decoder.shape_out)
    for layer in reversed(list(model.decoder)):
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            bias.copy_(y.transpose(0, 1).flatten(1).mean(1))
            return True
        before = layer.inverse(y)
        if before is None:
            return False
        y = before
    return False


def _scales(model: nn.Module) -> Iterator[tuple[str, float]]:
    """The gain of each layer of each list, by module name.

    It depends on the activation before the layer, batch norm after it, and the `init_scale`.
    """
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
            scale = network.init_scale if weighted[-1:] == [index] else 1.0
            if "." not in name and _has_batch_norm(network, index):
                scale *= BATCH_NORM_SCALE
            yield f"{name}.{index}".removeprefix("."), gain * scale
            if index in weighted:
                # A layer with weights restores a mean square of 1.
                gain = 1.0


def _has_batch_norm(network: Network, index: int) -> bool:
    """Whether the next layer that is an activation or has parameters is batch norm."""
    for layer in islice(network, index + 1, None):
        if isinstance(layer, Activation) or any(True for _ in layer.parameters()):
            return isinstance(layer, BatchNorm)
    return False


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
