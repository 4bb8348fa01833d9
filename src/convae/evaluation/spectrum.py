"""Radially averaged power spectra of images and latent maps, by the discrete cosine transform."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.precision import at_least_float32


def cosine_transform(values: Float[Tensor, "batch channel *sizes"]) -> Float[Tensor, "batch channel *sizes"]:
    """Orthonormal DCT-II over the spatial axes, as `scipy.fft.dctn(norm="ortho")`.

    It mirrors images at their borders, so that the spectrum has no power from jumps between opposite borders.
    """
    found = at_least_float32(values)
    for axis in range(2, values.ndim):
        size = values.shape[axis]
        place = torch.arange(size, dtype=torch.float64)
        basis = torch.cos(math.pi * place[:, None] * (2 * place + 1) / (2 * size)) * math.sqrt(2 / size)
        basis[0] /= math.sqrt(2)
        found = (found.movedim(axis, -1) @ basis.T.to(found)).movedim(-1, axis)
    return found


def radial_power(values: Float[Tensor, "batch channel *sizes"]) -> Float[Tensor, "batch channel frequency"]:
    """Mean squared DCT coefficient in shells of equal radial frequency.

    The frequency of a coefficient is the norm of its frequencies along the axes, each relative to the Nyquist frequency
    of the axis. The n-th shell, for n from 1, is centered at n divided by the smallest size, and below 1; the mean
    value of the image and frequencies beyond are left out.
    """
    power = cosine_transform(values).square()
    sizes = values.shape[2:]
    radius = torch.zeros(sizes, dtype=torch.float64)
    for axis, size in enumerate(sizes):
        shape = [-1 if each == axis else 1 for each in range(len(sizes))]
        radius += (torch.arange(size, dtype=torch.float64) / size).square().reshape(shape)
    least = min(sizes)
    shell = (radius.sqrt() * least).round().long().flatten().to(power.device)
    flat = power.flatten(2)
    sums = flat.new_zeros(*flat.shape[:2], int(shell.max()) + 1).index_add_(2, shell, flat)
    counts = torch.bincount(shell)
    return (sums / counts)[..., 1:least]


def relative_power(means: Float[Tensor, "*some column"], channels: int) -> Float[Tensor, "*some frequency"]:
    """Spectrum of all channels, each divided by its mean power: as of channels that are scaled to equal power.

    Args:
        means: (…, channel · frequency), mean power over images.
        channels: number of channels; those without power are left out.
    """
    power = means.unflatten(-1, (channels, -1))
    level = power.mean(-1, keepdim=True)
    return torch.where(level > 0, power / level, torch.nan).nanmean(-2)


def frequencies(count: int) -> Float[Tensor, " frequency"]:
    """Centers of the shells of `radial_power`, relative to the Nyquist frequency."""
    return torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)


def log_log_slope(power: Float[Tensor, "*some frequency"]) -> Float[Tensor, "*some"]:
    """Slope of log power against log frequency by least squares: the exponent of a power law."""
    x = frequencies(power.shape[-1]).log()
    x = x - x.mean()
    return (power.log() * x).sum(-1) / x.square().sum()
