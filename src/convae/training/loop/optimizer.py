"""The optimizers, Adam and AdamW, and their state in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convae.training.distributed.sharding import shard_like
from convae.training.recipe.schema import OptimizerConfig


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW over the module's parameters; weight decay is kept off biases, norms and single numbers.

    Kingma & Ba 2015 (arXiv:1412.6980), Loshchilov & Hutter 2019 (arXiv:1711.05101).
    """
    # Frozen ones too: a later stage may train them, and the optimizer passes over what has no gradient.
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True)


class OptimizerState:
    """The state of an optimizer by the names of the parameters, as a `Stateful`.

    Args:
        optimizer: the optimizer.
        module: whose parameters it updates.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
        self._optimizer, self._module = optimizer, module

    def state(self) -> dict[str, Any]:
        """Each tensor as `parameter.key`."""
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        return {
            f"{names[id(parameter)]}.{key}": torch.as_tensor(value)
            for parameter, values in self._optimizer.state.items()
            for key, value in values.items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the tensors, in the memory layout and shards of their parameters."""
        self._optimizer.state.clear()
        parameters = dict(self._module.named_parameters())
        for name, tensor in state.items():
            owner, _, key = name.rpartition(".")
            parameter = parameters[owner]
            like_parameter = tensor.ndim == parameter.ndim and tensor.ndim > 0
            layout = torch.preserve_format if not like_parameter else _memory_format(parameter)
            # A copy: the optimizer changes it in place.
            own = tensor.to(parameter.device, copy=True).contiguous(memory_format=layout)
            self._optimizer.state[parameter][key] = shard_like(own, parameter) if like_parameter else own


def _memory_format(parameter: Tensor) -> torch.memory_format:
    """The memory layout of a parameter, which its optimizer state shares."""
    if parameter.ndim == 4 and not parameter.is_contiguous():
        return torch.channels_last
    if parameter.ndim == 5 and not parameter.is_contiguous():
        return torch.channels_last_3d
    return torch.contiguous_format
