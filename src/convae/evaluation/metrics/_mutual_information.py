"""Mutual information of latent values and factors of variation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.evaluation.factors import Factors


def information_matrix(latents: NDArray[np.float64], factors: Factors, bins: int) -> NDArray[np.float64]:
    """(value, factor): I(z; v), nats, of each latent value in bins of equal width over its range, by relative counts.

    With few images per bin and class it is too large: the bias is about (bins − 1)(classes − 1) / 2N nats for N images.

    Args:
        latents: (image, value).
        factors: of the same images.
        bins: number of bins of a latent value.
    """
    binned = [np.digitize(column, np.histogram(column, bins)[1][1:-1]) for column in latents.T]
    each = [[_information(column, factor) for factor in factors.values.T] for column in binned]
    return np.array(each)


def factor_entropies(factors: Factors) -> NDArray[np.float64]:
    """(factor,) entropy, nats, by relative counts."""
    return np.array([_information(column, column) for column in factors.values.T])


def _information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Mutual information, nats, of the relative counts of two variables with values from 0."""
    width = int(b.max()) + 1
    joint = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width) / len(a)
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    held = joint > 0
    return float((joint[held] * np.log(joint[held] / product[held])).sum())
