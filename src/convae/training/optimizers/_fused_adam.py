"""Adam in one kernel for all parameters."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.adam import _fused_adam

from convae.training.optimizers.base import undecorated

Decay = Annotated[float, Field(ge=0, lt=1)]
"""Decay of a running mean."""


class FusedAdam(torch.optim.Adam):
    """The same steps as `torch.optim.Adam(..., fused=True)`, whose first call imports torch's compiler.

    Args:
        groups: parameters with their options.
        lr: learning rate.
        betas: decay of the running means of gradients and squared gradients.
        decoupled_weight_decay: whether weight decay is that of AdamW.
    """

    add_param_group = undecorated("add_param_group")
    zero_grad = undecorated("zero_grad")

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], *, decoupled_weight_decay: bool
    ) -> None:
        super().__init__(groups, lr, betas, fused=True, decoupled_weight_decay=decoupled_weight_decay)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # without closures
        """One step; skipped where `found_inf` is set and positive, a tensor."""
        for group in self.param_groups:
            self.step_group(group)

    def step_group(self, group: dict[str, Any]) -> None:
        """The step of one group of parameters."""
        lists: list[list[Tensor]] = [[] for _ in range(6)]
        self._init_group(group, *lists)  # type: ignore[no-untyped-call]  # without types in torch
        parameters, gradients, means, squares, largest, steps = lists
        _fused_adam(
            parameters,
            gradients,
            means,
            squares,
            largest,
            steps,
            None,
            getattr(self, "found_inf", None),
            amsgrad=False,
            has_complex=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
            capturable=False,
            differentiable=False,
            decoupled_weight_decay=group["decoupled_weight_decay"],
        )
