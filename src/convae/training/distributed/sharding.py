"""Models too large for one device: every parameter cut into a part for each process (FSDP2).

Layers are put together for a moment, when they are used, and cut again (Zhao et al. 2023, arXiv:2304.11277). What is
saved is always whole, so that a checkpoint or an artifact knows nothing of how many processes wrote it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.model.layers.base.network import count_parameters
from convae.model.quantizers.base import Quantizer
from convae.model.vae import VAE

ALONE = 1_000_000
"""Parameters from which a layer is put together by itself; smaller ones are with all others."""


def shard(model: VAE, device: torch.device) -> None:
    """Cuts the parameters of a model, in its place, among all processes.

    Args:
        model: whose parameters are contiguous and alike in all processes.
        device: where it is.

    Raises:
        ConfigError: a codebook has parameters, which may change in a pass, or are used outside of one: that is lost
            where they are put together for a moment.
    """
    if any(True for module in model.modules() if isinstance(module, Quantizer) for _ in module.parameters()):
        raise ConfigError("training.shard: a codebook that follows gradients cannot be cut: give update: ema")
    # Imported where it is used: it takes longer than the first steps of a small training.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # What the trainer does with the model's output changes nothing in its place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    processes = torch.distributed.get_world_size()
    mesh = init_device_mesh(device.type, (processes,))
    # Single numbers cannot be cut: every process keeps them, and takes the mean of their gradients.
    numbers = {parameter for parameter in model.parameters() if not parameter.ndim}
    for number in numbers:
        number.register_hook(partial(_mean, processes))
    for layer in [layer for side in (model.encoder, model.decoder) for layer in side.children()]:
        if count_parameters(layer) >= ALONE:
            fully_shard(layer, mesh=mesh)
    # Cut again after every use, so that the model's parameters are always the parts.
    fully_shard(model, mesh=mesh, reshard_after_forward=True, ignored_params=numbers)


def _mean(processes: int, gradient: Tensor) -> Tensor:
    total = gradient.clone()
    torch.distributed.all_reduce(total)
    return total / processes


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process has only its part of a tensor."""
    return hasattr(tensor, "full_tensor")


def local_part(tensor: Tensor) -> Tensor:
    """This process's part of a tensor; all of one that is not cut."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part


def gather_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be cut; every process has to call it, in the same order."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return whole


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, cut as `like` is cut."""
    if not is_sharded(like):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    placed = whole.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def load_full_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives a model, which may be cut, the values of a whole one.

    Raises:
        RuntimeError: they are of another model.
    """
    own = model.state_dict()
    model.load_state_dict({name: shard_like(value, own.get(name, value)) for name, value in tensors.items()})
