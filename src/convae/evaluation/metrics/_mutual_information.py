"""Mutual information of latent values and factors of variation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.evaluation.factors import Factors


def information_matrix(latents: NDArray[np.float64], factors: Factors, bins: int) -> NDArray[np.float64]:
    """Mutual information I(z; v) of each latent value z and factor v, (value, factor), nats.

    Estimated from a histogram with bins of equal width over the range of z. The bias is about
    (bins − 1)(classes − 1) / 2N nats for N images.

    Args:
        latents: (image, value).
        factors: factors of the same images.
        bins: number of bins.
    """
    binned = [np.digitize(column, np.histogram(column, bins)[1][1:-1]) for column in latents.T]
    each = [[_information(column, factor) for factor in factors.values.T] for column in binned]
    return np.array(each)


def factor_entropies(factors: Factors) -> NDArray[np.float64]:
    """Entropy of each factor, (factor,), nats, from relative frequencies."""
    return np.array([_information(column, column) for column in factors.values.T])


def _information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Mutual information, nats, of two variables with integer values from 0, from relative frequencies."""
    width = int(b.max()) + 1
    joint = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width) / len(a)
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    held = joint > 0
    return float((joint[held] * np.log(joint[held] / product[held])).sum())
