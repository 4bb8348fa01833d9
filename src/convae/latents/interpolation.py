"""Ways between latents."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.types import Latents

Mode = Literal["lerp", "slerp"]
PARALLEL = 1e-4
"""Radians within which two directions are taken for one line."""


def interpolate(a: Latents, b: Tensor, steps: int, *, mode: Mode = "lerp") -> Float[Tensor, "batch steps *latent"]:
    """Evenly spaced latents from each of `a` to its partner in `b`, both ends exactly themselves.

    Args:
        a: where the ways begin.
        b: where they end.
        steps: latents on each way, both ends counted.
        mode: `lerp`, the straight line; or `slerp`, along the great circle between the directions (Shoemake 1985),
            which keeps the distance from the middle of the prior.

    Raises:
        ShapeError: `a` and `b` have different shapes.
        ConfigError: fewer than two steps, or another mode.
    """
    if a.shape != b.shape:
        raise ShapeError(f"a way needs two ends of one shape, got {shape_text(a.shape)} and {shape_text(b.shape)}")
    if steps < 2:
        raise ConfigError(f"a way has at least its two ends, got {steps} steps")
    share = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(1, steps, 1)
    start, end = a.flatten(1)[:, None], b.flatten(1)[:, None]
    if mode == "lerp":
        way = start + share * (end - start)
    elif mode == "slerp":
        way = _along_the_circle(start, end, share)
    else:
        raise ConfigError(f"the mode is lerp or slerp, got '{mode}'")
    way[:, 0], way[:, -1] = start[:, 0], end[:, 0]
    return way.view(len(a), steps, *a.shape[1:])


def _along_the_circle(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation; where the ends lie on one line through the origin, the straight one."""
    lengths = start.norm(dim=-1, keepdim=True) * end.norm(dim=-1, keepdim=True)
    cosine = (start * end).sum(-1, keepdim=True) / lengths.clamp_min(torch.finfo(start.dtype).tiny)
    angle = torch.acos(cosine.clamp(-1, 1))
    on_a_line = (angle < PARALLEL) | (torch.pi - angle < PARALLEL) | (lengths == 0)
    safe = torch.where(on_a_line, torch.ones_like(angle), angle)
    curved = (torch.sin((1 - share) * safe) * start + torch.sin(share * safe) * end) / torch.sin(safe)
    return torch.where(on_a_line, start + share * (end - start), curved)


def path(points: Float[Tensor, points * latent], steps: int, *, mode: Mode = "lerp") -> Float[Tensor, all * latent]:
    """A way through several latents in turn, each of them on it once: `steps` for each leg, both its ends counted.

    Raises:
        ConfigError: fewer than two points or steps, or another mode.
    """
    if len(points) < 2:
        raise ConfigError(f"a way needs at least two points, got {len(points)}")
    legs = interpolate(points[:-1], points[1:], steps, mode=mode)
    return torch.cat([legs[:, :-1].flatten(0, 1), points[-1:]])
