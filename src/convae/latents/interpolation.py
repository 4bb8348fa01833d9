"""Interpolation between latents, and paths through several."""

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
"""Angle in radians below which two directions are collinear."""


def interpolate(a: Latents, b: Tensor, steps: int, *, mode: Mode = "lerp") -> Float[Tensor, "batch steps *latent"]:
    """Evenly spaced latents from rows of `a` to rows of `b`; both ends are exact.

    Args:
        a: (batch, *latent), first latent of each segment.
        b: (batch, *latent), last latent.
        steps: latents per segment, including both ends.
        mode: `lerp`, linear; or `slerp`, spherical (Shoemake 1985), which keeps the norm.

    Raises:
        ShapeError: `a` and `b` have different shapes.
        ConfigError: fewer than two steps, or another mode.
    """
    if a.shape != b.shape:
        raise ShapeError(f"expected two ends of equal shape, got {shape_text(a.shape)} and {shape_text(b.shape)}")
    if steps < 2:
        raise ConfigError(f"interpolation needs at least 2 steps, got {steps}")
    fraction = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(1, steps, 1)
    start, end = a.flatten(1)[:, None], b.flatten(1)[:, None]
    if mode == "lerp":
        segments = start + fraction * (end - start)
    elif mode == "slerp":
        segments = _along_the_circle(start, end, fraction)
    else:
        raise ConfigError(f"unknown mode '{mode}'. Use lerp or slerp")
    segments[:, 0], segments[:, -1] = start[:, 0], end[:, 0]
    return segments.view(len(a), steps, *a.shape[1:])


def _along_the_circle(start: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
    """Spherical interpolation; linear if the ends are collinear with the origin."""
    lengths = start.norm(dim=-1, keepdim=True) * end.norm(dim=-1, keepdim=True)
    cosine = (start * end).sum(-1, keepdim=True) / lengths.clamp_min(torch.finfo(start.dtype).tiny)
    angle = torch.acos(cosine.clamp(-1, 1))
    on_a_line = (angle < PARALLEL) | (torch.pi - angle < PARALLEL) | (lengths == 0)
    safe = torch.where(on_a_line, torch.ones_like(angle), angle)
    curved = (torch.sin((1 - fraction) * safe) * start + torch.sin(fraction * safe) * end) / torch.sin(safe)
    return torch.where(on_a_line, start + fraction * (end - start), curved)


def interpolate_path(
    points: Float[Tensor, points * latent], steps: int, *, mode: Mode = "lerp"
) -> Float[Tensor, all * latent]:
    """A path through several latents, with `steps` latents per segment, including both ends.

    Raises:
        ConfigError: fewer than two points or steps, or another mode.
    """
    if len(points) < 2:
        raise ConfigError(f"a path needs at least two points, got {len(points)}")
    segments = interpolate(points[:-1], points[1:], steps, mode=mode)
    return torch.cat([segments[:, :-1].flatten(0, 1), points[-1:]])
