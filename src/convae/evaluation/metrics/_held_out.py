"""Split of images for training and testing predictors of factors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.core.random import numpy_generator
from convae.evaluation.factors import Factors

TRAINED = 2 / 3
"""Fraction of images for training."""


def train_and_test(
    latents: NDArray[np.float64], factors: Factors, images: int, seed: int
) -> tuple[tuple[NDArray[np.float64], Factors], tuple[NDArray[np.float64], Factors]]:
    """Random training and test sets of latents and factors.

    Args:
        latents: (image, value).
        factors: factors of the same images.
        images: maximum number of images in both sets.
        seed: random seed.
    """
    order = numpy_generator(seed, "factors").permutation(len(latents))[:images]
    trained, tested = np.split(order, [round(TRAINED * len(order))])
    return (latents[trained], factors[trained]), (latents[tested], factors[tested])
