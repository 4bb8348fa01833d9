"""Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any

from convae.training.optimizers._fused_adam import Decay, FusedAdam


class AdamW(FusedAdam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Args:
        groups: parameters with their `weight_decay`, by which a step shrinks them times the learning rate.
        lr: learning rate.
        betas: decay of the running means of gradients and squared gradients.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, *, betas: tuple[Decay, Decay] = (0.9, 0.999)) -> None:
        super().__init__(groups, lr, betas, decoupled_weight_decay=True)
