"""Gradients through quantization."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

from convae.core.precision import full_precision, with_gradient_of
from convae.core.types import Latents

Estimator = Literal["straight-through", "rotation"]
"""How the gradient of code vectors reaches the values that were quantized: unchanged (Bengio et al. 2013), or rotated
and scaled as the value is onto its code (Fifty et al. 2024, arXiv:2410.06424)."""


def pass_gradient(entries: Latents, values: Latents, estimator: Estimator) -> Latents:
    """Code vectors, (batch, channel, *grid), with a gradient for the values that became them."""
    if estimator == "straight-through" or not values.requires_grad:
        return with_gradient_of(entries, values)
    return with_gradient_of(entries, _rotate(values, entries.detach()))


def _rotate(values: Latents, entries: Latents) -> Latents:
    """Values rotated and scaled onto code vectors; rotation and scale are constants for the gradient."""
    with full_precision(values.device):
        fixed = values.detach()
        start, end = F.normalize(fixed, dim=1), F.normalize(entries, dim=1)
        middle = F.normalize(start + end, dim=1)
        along = (values * middle).sum(1, keepdim=True)
        rotated = values - 2 * along * middle + 2 * (values * start).sum(1, keepdim=True) * end
        norms = [torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (entries, fixed)]
        return torch.mul(rotated, norms[0] / norms[1].clamp_min(1e-6))
