"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import torch

from convae.core.errors import ConfigError
from convae.training.optimizers._fused_adam import Decay
from convae.training.sharding import is_sharded


class SGD(torch.optim.SGD):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013).

    Args:
        groups: parameters with their `weight_decay`, the factor of an L2 penalty.
        lr: learning rate; usually much larger than that of Adam.
        momentum: decay of the running sum of gradients; 0 for none.
        nesterov: whether the gradient is looked up a step ahead, which needs momentum.

    Raises:
        ConfigError: `nesterov` without momentum.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, *, momentum: Decay = 0.9, nesterov: bool = False
    ) -> None:
        if nesterov and momentum == 0:
            raise ConfigError("optimizer sgd: nesterov needs a momentum. Set momentum: 0.9")
        # torch has no fused steps of sharded parameters.
        is_fused = not any(is_sharded(parameter) for group in groups for parameter in group["params"])
        super().__init__(groups, lr, momentum, nesterov=nesterov, fused=is_fused)
