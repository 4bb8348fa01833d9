"""Missing values of images: which values are observed, and what takes the place of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from convae.core.random import stream_key
from convae.core.types import Images
from convae.data.augment import image_keys, uniform

Origin = Literal["alpha", "mask", "nan"]
"""Where a source knows missing values from: the alpha channel, an array of masks beside the images, or NaN."""


@dataclass(frozen=True)
class Missing:
    """How the missing values of stored images are known.

    Attributes:
        origin: what marks missing values in the data; None where `fraction` applies.
        fraction: fraction of the pixels of each image that are dropped at random.
        fill: what the encoder sees in place of a missing value, in [0, 1].
        is_stored: whether the last stored channel holds the weights.
    """

    origin: Origin | None
    fraction: float
    fill: float
    is_stored: bool

    def apply(
        self, stored: Float[Tensor, "batch stored *sizes"], identities: NDArray[np.uint8]
    ) -> tuple[Images, Tensor]:
        """Images with the fill value where one is missing, and weights, (batch, channel or 1, *sizes).

        Args:
            stored: floats, (batch, stored channel, *sizes), with a last channel of weights if they are stored.
            identities: (batch, 16) digests of the images, which the dropped pixels depend on; any without `fraction`.
        """
        if self.is_stored:
            images, weights = stored[:, :-1], stored[:, -1:]
        else:
            images, weights = stored, torch.ones_like(stored[:, :1])
        if self.origin == "nan" and not self.is_stored:
            weights = (~images.isnan()).to(images.dtype)
            images = images.nan_to_num(0.0)
        if self.fraction:
            weights = weights * self._kept(images, identities)
        layout = torch.channels_last if images.ndim == 4 else torch.contiguous_format
        filled = torch.where(weights > 0, images, self.fill)
        return filled.contiguous(memory_format=layout), weights.contiguous()

    def _kept(self, images: Images, identities: NDArray[np.uint8]) -> Tensor:
        """(batch, 1, *sizes): 0 of dropped pixels, the same in each epoch; at least one pixel of an image is kept."""
        keys = image_keys(identities, images.device)
        count = images[0, 0].numel()
        places = torch.arange(count, device=images.device)
        drawn = uniform(stream_key(0, "missing"), (keys[:, None] + places).flatten(), 0).view(-1, count)
        limit = drawn.amax(1, keepdim=True).clamp_max(self.fraction)
        return (drawn >= limit).to(images.dtype).view(-1, 1, *images.shape[2:])
