"""Binarization of gray images: pixels as samples of Bernoulli variables whose means are the gray values."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convae.core.random import stream_key
from convae.core.types import Images
from convae.data.augment import image_keys, uniform

Binarization = Literal["dynamic", "fixed", "threshold"]
"""How values become 0 or 1.

`dynamic` draws 1 with the probability of the value, again in each epoch of a training, and once for each held-out image
(R. Salakhutdinov and I. Murray 2008; Y. Burda et al. 2015, arXiv:1509.00519). `fixed` draws once for every image.
`threshold` is 1 above a half.
"""

_FIXED = stream_key(0, "binarize")
"""The stream of what is drawn once."""


def epoch_stream(how: Binarization, seed: int, epoch: int) -> int:
    """The stream of random numbers for the training images of an epoch.

    Args:
        how: kind of binarization.
        seed: of the training.
        epoch: from 0.
    """
    return stream_key(seed, "binarize", epoch) if how == "dynamic" else _FIXED


def binarize(
    images: Images,
    how: Binarization,
    identities: NDArray[np.uint8],
    weights: Tensor | None = None,
    stream: int = _FIXED,
) -> Images:
    """Images of zeros and ones, in the same memory layout.

    Args:
        images: (batch, channel, *sizes) in [0, 1].
        how: kind of binarization.
        identities: (batch, 16) digests of the images, which the draws depend on.
        weights: (batch, channel or 1, *sizes), 0 of missing values, which are unchanged; None if all are observed.
        stream: of the random numbers, from `epoch_stream`.
    """
    levels = 0.5 if how == "threshold" else _draws(images, identities, stream)
    binary = (images > levels).to(images.dtype)
    if weights is not None:
        binary = torch.where(weights > 0, binary, images)
    flat = images.ndim != 4 or not images.is_contiguous(memory_format=torch.channels_last)
    return binary.contiguous(memory_format=torch.contiguous_format if flat else torch.channels_last)


def _draws(images: Images, identities: NDArray[np.uint8], stream: int) -> Images:
    """A uniform number in [0, 1) for each value, a pure function of the image, the place and the stream."""
    count = images[0].numel()
    counters = image_keys(identities, images.device)[:, None] + torch.arange(count, device=images.device)
    return uniform(stream, counters.flatten(), 0).view(images.shape)
