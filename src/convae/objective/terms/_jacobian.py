"""Norms of Jacobians, estimated with random probes."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.types import PerImage


def squared_jacobian_norm(outputs: Tensor, inputs: Tensor, noise: Generators | None) -> PerImage:
    """Unbiased estimate of ‖∂ outputs / ∂ inputs‖² (Frobenius) of each row, with a gradient (Hutchinson 1990).

    E ‖vᵀ J‖² = ‖J‖² for a normal vector v: one backward pass, which can be differentiated itself.

    Args:
        outputs: (row, …), a function of the same row of `inputs` only.
        inputs: (row, …), with gradient.
        noise: of the probe.
    """
    probe = normal_like(outputs, noise)
    is_trained = torch.is_grad_enabled()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(outputs, inputs, probe, create_graph=is_trained, retain_graph=True)
    return gradient.flatten(1).square().sum(1)
