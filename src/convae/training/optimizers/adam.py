"""Adam."""

from __future__ import annotations

from typing import Any

from convae.training.optimizers._fused_adam import Decay, FusedAdam


class Adam(FusedAdam):
    """Steps by running means of gradients and squared gradients (Kingma & Ba 2015, arXiv:1412.6980).

    Args:
        groups: parameters with their `weight_decay`, the factor of an L2 penalty.
        lr: learning rate.
        betas: decay of the two running means.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, *, betas: tuple[Decay, Decay] = (0.9, 0.999)) -> None:
        super().__init__(groups, lr, betas, decoupled_weight_decay=False)
