"""Compilation of encoder and decoder by `torch.compile`, where it pays and is possible."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Iterator

import torch

from convae.core.errors import ConfigError
from convae.model.layers.base import Network
from convae.model.layers.base.compiled import CompileMode
from convae.model.vae import VAE
from convae.training.distributed import Ranks
from convae.training.loop.numerics import StepPrecision
from convae.training.recipe.schema import TrainingConfig

COMPILE_FROM = 2000
"""Steps from which `auto` compiles: compiling takes up to a minute or two."""
GRAPHS_UP_TO = 2**27
"""Values of all layers for a batch up to which CUDA graphs are recorded: launching larger kernels takes less time than
running them, and graphs keep the memory of activations to themselves."""
_CPP = ("c++", "g++", "clang++", "cl")


def compile_networks(
    model: VAE, options: TrainingConfig, device: torch.device, ranks: Ranks, *, steps: int, images: int, samples: int
) -> str | None:
    """Compiles encoder and decoder as `training.compile` says, and runs the compiled parts once.

    Args:
        model: model on its device, in training mode.
        options: options of the training.
        device: device of the model.
        ranks: the processes.
        steps: steps of the training.
        images: images in a step, over all processes.
        samples: latents of each image.

    Returns:
        A note on parts that are not compiled; None without one.

    Raises:
        ConfigError: `training.compile` is on, and compilation is not possible.
    """
    is_on = options.compile == "on"
    if options.compile == "off" or not (is_on or (device.type == "cuda" and steps >= COMPILE_FROM)):
        return None
    if (reason := _obstacle(options, device, ranks)) is not None:
        if is_on:
            raise ConfigError(f"training.compile: {reason}. Use off")
        return None
    images = max(1, images // ranks.count // options.accumulate)
    mode = _choose_mode(model, options, device, ranks, images * samples)
    compiled = model.use_compilation(mode)
    try:
        for side in compiled:
            network, is_decoder = model.networks[side], side == "decoder"
            x = torch.zeros(images * (samples if is_decoder else 1), *network.shape_in, device=device)
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            # Images have no gradient; latents have.
            _run_once(network, options.precision, x.requires_grad_(is_decoder))
    except Exception as error:  # compilers raise errors of any type
        model.use_compilation(None)
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if is_on:
            raise ConfigError(f"training.compile: torch.compile failed ({reason}). Use off") from error
        return f"encoder and decoder are not compiled, as torch.compile failed ({reason})"
    left_out = [side for side in model.networks if side not in (*compiled, "classifier")]
    if is_on and left_out:
        return f"training.compile: not compiled: {' and '.join(left_out)}, with layers that use the forward context"
    return None


def _obstacle(options: TrainingConfig, device: torch.device, ranks: Ranks) -> str | None:
    """Why these options or this machine do not allow compilation; None if they do."""
    for name in ("shard", "checkpointing", "sync_batch_norm"):
        if getattr(options, name) and (name == "checkpointing" or ranks.count > 1):
            return f"cannot be combined with training.{name}"
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "needs Triton, which is not installed"
    if device.type == "cpu":
        has_compiler = "CXX" in os.environ or any(map(shutil.which, _CPP))
        return None if has_compiler else "needs a C++ compiler, and none was found"
    return f"is not available on {device.type}"


def _choose_mode(model: VAE, options: TrainingConfig, device: torch.device, ranks: Ranks, images: int) -> CompileMode:
    """With CUDA graphs where a step is short and its gradients are those of one backward pass."""
    values = images * sum(math.prod(shape) for shape in _layer_shapes(model))
    is_short = values <= GRAPHS_UP_TO and ranks.count == 1 and options.accumulate == 1
    return "reduce-overhead" if device.type == "cuda" and is_short else "default"


def _layer_shapes(model: VAE) -> Iterator[tuple[int, ...]]:
    """The output shapes of all layers of encoder and decoder, also of those inside of layers."""
    for side, network in model.networks.items():
        if side != "classifier":
            for module in network.modules():
                if isinstance(module, Network):
                    yield from module.shapes


def _run_once(network: Network, precision: str, x: torch.Tensor) -> None:
    """A forward and backward pass, which compiles both; statistics of the network are unchanged."""
    before = [buffer.clone() for buffer in network.buffers()]
    modes = {module: module.training for module in network.modules()}
    network.train()
    with StepPrecision(precision, x.device).compute():
        y = network(x)
    y.float().sum().backward()
    network.zero_grad(set_to_none=True)
    for module, mode in modes.items():
        module.training = mode
    for buffer, old in zip(network.buffers(), before, strict=True):
        buffer.data.copy_(old)
