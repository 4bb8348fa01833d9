"""Optimisers, and the learning rate at each moment."""

from __future__ import annotations

import torch
from torch import nn

from convae.objective.schedules.base import Moment, schedule
from convae.training.recipe import OptimizerConfig


def optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW over the model's parameters; weight decay is kept off biases, norms and single numbers.

    Kingma & Ba 2015 (arXiv:1412.6980), Loshchilov & Hutter 2019 (arXiv:1711.05101).
    """
    # Frozen ones too: a later stage may train them, and the optimiser passes over what has no gradient.
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True)


class LearningRate:
    """The learning rate as a function of the moment: the peak, times the schedule, times the warm-up's rise.

    Args:
        config: of the optimiser.
        where: the optimiser's place in the recipe, for messages.
    """

    def __init__(self, config: OptimizerConfig, where: str) -> None:
        self._peak = config.lr
        self._warmup = config.warmup
        self._schedule = schedule(config.schedule, f"{where}.schedule")

    def __call__(self, moment: Moment, steps: int) -> float:
        """The rate for the step that begins at `moment`, on the clock of an optimiser that lasts for `steps` steps."""
        rising = self._warmup * steps
        # The first step already moves: it takes the rate of the end of its own share of the rise.
        rise = min(1.0, (moment.step + 1) / rising) if rising > 0 else 1.0
        return self._peak * self._schedule(moment) * rise
