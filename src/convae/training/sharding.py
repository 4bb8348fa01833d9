"""Sharding of models that are too large for one device (FSDP2).

Parameters of a layer are gathered for its use and
resharded afterwards (Zhao et al. 2023, arXiv:2304.11277). Saved tensors are always full, so that checkpoints and
artifacts are independent of the number of processes.
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
"""Number of parameters from which a layer is sharded separately; smaller ones are sharded together."""


def shard(model: VAE, device: torch.device) -> None:
    """Shards the parameters of a model among all processes, in place.

    Args:
        model: model with contiguous parameters that are equal in all processes.
        device: its device.

    Raises:
        ConfigError: a codebook has parameters, which are used or changed outside of the gathered forward pass.
    """
    if any(True for module in model.modules() if isinstance(module, Quantizer) for _ in module.parameters()):
        raise ConfigError("training.shard: a codebook with gradient updates cannot be sharded. Set update: ema")
    # A late import, since it takes longer than the first steps of a small training.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # The trainer does not modify the output of the model in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    processes = torch.distributed.get_world_size()
    mesh = init_device_mesh(device.type, (processes,))
    # Scalars cannot be sharded: every process keeps them, and averages their gradients.
    numbers = {parameter for parameter in model.parameters() if not parameter.ndim}
    for number in numbers:
        number.register_hook(partial(_mean, processes))
    for layer in [layer for side in (model.encoder, model.decoder) for layer in side.children()]:
        if count_parameters(layer) >= ALONE:
            fully_shard(layer, mesh=mesh)
    # Reshard after every use, so that the parameters are always the shards.
    fully_shard(model, mesh=mesh, reshard_after_forward=True, ignored_params=numbers)


def _mean(processes: int, gradient: Tensor) -> Tensor:
    total = gradient.clone()
    torch.distributed.all_reduce(total)
    return total / processes


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is sharded."""
    return hasattr(tensor, "full_tensor")


def local_part(tensor: Tensor) -> Tensor:
    """The shard of this process; the tensor itself if it is not sharded."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]  # a DTensor
    return part


def gather_tensor(tensor: Tensor) -> Tensor:
    """Gathers the full tensor; every process must call it, in the same order."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]  # a DTensor
    return whole


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """Shards a full tensor like `like`."""
    if not is_sharded(like):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    placed = whole.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def load_full_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads full tensors into a model that may be sharded.

    Raises:
        RuntimeError: the tensors are of another model.
    """
    own = model.state_dict()
    model.load_state_dict({name: shard_like(value, own.get(name, value)) for name, value in tensors.items()})
