"""Images on which a predictor of factors is trained, and others on which it is tested."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.core.random import numpy_generator
from convae.evaluation.factors import Factors

TRAINED = 2 / 3
"""Fraction of the images that predictors are trained on."""


def train_and_test(
    latents: NDArray[np.float64], factors: Factors, images: int, seed: int
) -> tuple[tuple[NDArray[np.float64], Factors], tuple[NDArray[np.float64], Factors]]:
    """Latents and factors of the images for training and of those for testing, in random order.

    Args:
        latents: (image, value).
        factors: of the same images.
        images: how many to use at most.
        seed: of the order.
    """
    order = numpy_generator(seed, "factors").permutation(len(latents))[:images]
    trained, tested = np.split(order, [round(TRAINED * len(order))])
    return (latents[trained], factors[trained]), (latents[tested], factors[tested])
