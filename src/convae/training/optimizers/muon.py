"""Muon: orthogonal steps for matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.training.optimizers._fused_adam import Decay, FusedAdam
from convae.training.sharding import is_sharded

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that is iterated: it moves singular values in (0, 1] towards 1, within about 0.7 to 1.2."""
ITERATIONS = 5
RMS = 0.2
"""Root mean square of a step divided by the learning rate, about that of Adam."""
EPSILON = 1e-7


class Muon(FusedAdam):
    """Orthogonalized momentum for weights of layers (Jordan et al. 2024), AdamW for all other parameters.

    The momentum of the weight of a linear layer or a convolution, as a matrix, is replaced by the nearest matrix with
    equal singular values, so that the step moves all directions alike. Its size is that of Adam's steps, so that
    learning rates for Adam fit (Liu et al. 2025, arXiv:2502.16982). Weight decay is decoupled. Embeddings, codebooks,
    biases and norms take steps of AdamW. A step costs more than Adam's: some products of each matrix with itself.

    Args:
        groups: parameters with their `weight_decay`; groups with `are_matrices` take orthogonal steps.
        lr: learning rate.
        momentum: decay of the running mean of the gradients of matrices.
        betas: decay of the running means of Adam.

    Raises:
        ConfigError: a weight is sharded.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        *,
        momentum: Decay = 0.95,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
    ) -> None:
        super().__init__(groups, lr, betas, decoupled_weight_decay=True)
        for group in self.param_groups:
            group["momentum"] = momentum
            group.setdefault("are_matrices", False)
            if group["are_matrices"] and any(map(is_sharded, group["params"])):
                raise ConfigError("optimizer muon: needs whole matrices. Set training.shard: false, or use adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # without closures
        """One step; skipped where `found_inf` is set and positive, a tensor."""
        for group in self.param_groups:
            if group["are_matrices"]:
                self._step_matrices(group)
            else:
                self.step_group(group)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        found: Tensor | None = getattr(self, "found_inf", None)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            mean = state["momentum_buffer"]
            moved = mean.lerp(weight.grad, 1 - group["momentum"])
            ahead = weight.grad.lerp(moved, group["momentum"])  # Nesterov's momentum
            direction = orthogonalize(ahead.flatten(1)).view_as(weight)
            scale = RMS * math.sqrt(max(len(weight), weight[0].numel()))
            stepped = weight * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * scale * direction
            for value, changed in ((mean, moved), (weight, stepped)):
                # On the device, so that the host does not wait for it.
                value.copy_(changed if found is None else torch.where(found > 0, value, changed))


def orthogonalize(matrix: Tensor) -> Tensor:
    """A matrix with the singular vectors of another one and singular values near 1.

    Five iterations of Newton and Schulz, with a polynomial of degree 5 (Jordan et al. 2024), in the precision of the
    matrix.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    result: Tensor = wide / wide.norm().clamp_min(EPSILON)
    for _ in range(ITERATIONS):
        product = result @ result.T
        polynomial = torch.addmm(product, product, product, beta=b, alpha=c)
        result = torch.addmm(result, polynomial, result, beta=a)
    return result if wide is matrix else result.T
