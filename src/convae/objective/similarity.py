"""SSIM and MS-SSIM, shared by loss terms and metrics.

Images are (batch, channel, *sizes) with any number of spatial axes and a data range of 1. Whatever the precision
of the images, sums are computed in float32 or wider, since variances are small differences of large numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.precision import at_least_float32, full_precision
from convae.core.types import Images, PerImage

WINDOW = 11
"""Width of the Gaussian window, pixels."""
SIGMA = 1.5
"""Standard deviation of the Gaussian window, pixels."""
C1, C2 = 0.01**2, 0.03**2
"""Stabilizing constants of SSIM for a data range of 1."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales of MS-SSIM, finest first (Wang, Simoncelli & Bovik 2003)."""


def ssim(x: Images, y: Images) -> PerImage:
    """Structural similarity (Wang et al. 2004, doi:10.1109/TIP.2003.819861), in [-1, 1]; 1 for equal images.

    Gaussian window of width 11 and sigma 1.5 around every pixel, with reflect padding, so images can have any size.
    Equal to torchmetrics.
    """
    luminance, contrast = _maps(x, y)
    return (luminance * contrast).flatten(1).mean(1)


def least_size(scales: int) -> int:
    """The smallest image size for MS-SSIM at a number of scales, pixels: one window at the coarsest."""
    return WINDOW << (scales - 1)


def ms_ssim(x: Images, y: Images, *, scales: int = len(SCALE_WEIGHTS)) -> PerImage:
    """Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003, doi:10.1109/ACSSC.2003.1292216), in [0, 1].

    The product of contrast and structure of each scale and of the similarity at the coarsest, each to the power of its
    weight; contrast only where windows lie inside the image. Equal to torchmetrics. A pair that is negatively
    correlated at some scale has the value 0 and no gradient.

    Args:
        x: images.
        y: images.
        scales: number of scales, 1 to 5, each with half the resolution. With fewer than 5, the weights of the finest
            are renormalized to the sum of all.

    Raises:
        ShapeError: the images are too small for this number of scales.
    """
    smallest = min(x.shape[2:])
    if smallest < least_size(scales):
        fitting = [fewer for fewer in range(1, scales) if smallest >= least_size(fewer)]
        raise ShapeError(
            f"MS-SSIM at {scales} scales needs sizes of {least_size(scales)} or more, but the images are "
            f"{shape_text(x.shape[2:])}: {f'use {fitting[-1]} scales' if fitting else 'use SSIM, which takes any size'}"
        )
    x, y = at_least_float32(x), at_least_float32(y)
    factor = sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales])
    halve = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[x.ndim - 2]
    product = torch.ones((), device=x.device)
    for scale, weight in enumerate(SCALE_WEIGHTS[:scales]):
        if scale > 0:
            x, y = halve(x, 2), halve(y, 2)
        luminance, contrast = _maps(x, y)
        if scale == scales - 1:
            part = (luminance * contrast).flatten(1).mean(1)
        else:
            part = contrast[_inside(contrast)].flatten(1).mean(1)
        # The gradient of 0^p is infinite: compute 1^p there and discard it.
        positive = part > 0
        powered = torch.where(positive, part, 1) ** (weight * factor)
        product = product * torch.where(positive, powered, 0)
    return product


def _maps(x: Images, y: Images) -> tuple[Images, Images]:
    """The luminance factor, and the contrast and structure factor, of SSIM at each pixel."""
    with full_precision(x.device):
        x, y = at_least_float32(x), at_least_float32(y)
        mean_x, mean_y, xx, yy, xy = _windowed(torch.stack([x, y, x * x, y * y, x * y]))
        luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
        variances = xx - mean_x.square() + yy - mean_y.square()
        contrast = (2 * (xy - mean_x * mean_y) + C2) / (variances + C2)
    return luminance, contrast


def _inside(images: Images) -> tuple[slice, ...]:
    """Index of the pixels whose window lies inside the image."""
    whole, inner = slice(None), slice(WINDOW // 2, -(WINDOW // 2))
    return (whole, whole, *[inner] * (images.ndim - 2))


def _windowed(images: Tensor) -> Tensor:
    """Gaussian-weighted mean around each pixel: (stack, batch, channel, *sizes) to the same shape."""
    # A matrix product per axis instead of a convolution: faster up to some hundred pixels, and not rounded to TF32,
    # which is too coarse for small variances.
    for _ in range(images.ndim - 3):
        images = images.movedim(3, -1)
        images = images @ _window_matrix(images.shape[-1]).to(images)
    return images


def _window_matrix(size: int) -> Tensor:
    """(size, size): each column holds the window around one pixel of an axis, with reflect padding."""
    offsets = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets.double() / SIGMA).square())
    # Reflect padding does not repeat the border pixel: ... 2 1 | 0 1 2 ... n-1 | n-2 ...
    period = max(1, 2 * (size - 1))
    places = (torch.arange(size) + offsets.unsqueeze(1)) % period
    places = torch.minimum(places, period - places)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(0, places, (weights / weights.sum()).unsqueeze(1).expand(-1, size).contiguous())
