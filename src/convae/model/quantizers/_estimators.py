"""Gradient estimators for quantization."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

from convae.core.precision import full_precision, with_gradient_of
from convae.core.types import Latents

Estimator = Literal["straight-through", "rotation"]
"""Gradient of the quantized values: that of the code vectors (Bengio et al. 2013, arXiv:1308.3432), or the same under
the rotation and scaling that maps a value onto its code (rotation trick; Fifty et al. 2024, arXiv:2410.06424)."""


def pass_gradient(code_vectors: Latents, values: Latents, estimator: Estimator) -> Latents:
    """Code vectors, (batch, channel, *grid), with a gradient for the quantized values, of equal shape."""
    if estimator == "straight-through" or not values.requires_grad:
        return with_gradient_of(code_vectors, values)
    return with_gradient_of(code_vectors, _rotate(values, code_vectors.detach()))


def _rotate(values: Latents, code_vectors: Latents) -> Latents:
    """Rotates and scales values onto code vectors; gradients take rotation and scale for constants."""
    with full_precision(values.device):
        fixed = values.detach()
        start, end = F.normalize(fixed, dim=1), F.normalize(code_vectors, dim=1)
        middle = F.normalize(start + end, dim=1)
        along = (values * middle).sum(1, keepdim=True)
        rotated = values - 2 * along * middle + 2 * (values * start).sum(1, keepdim=True) * end
        norms = [torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (code_vectors, fixed)]
        return torch.mul(rotated, norms[0] / norms[1].clamp_min(1e-6))
