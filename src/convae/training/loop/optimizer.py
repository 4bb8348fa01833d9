"""The optimizers: Adam and AdamW."""

from __future__ import annotations

import torch
from torch import nn

from convae.training.recipe.schema import OptimizerConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW over the model's parameters; weight decay is kept off biases, norms and single numbers.

    Kingma & Ba 2015 (arXiv:1412.6980), Loshchilov & Hutter 2019 (arXiv:1711.05101).
    """
    # FrozenParts ones too: a later stage may train them, and the optimiser passes over what has no gradient.
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True)
