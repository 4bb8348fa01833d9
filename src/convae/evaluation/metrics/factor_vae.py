"""The disentanglement score of FactorVAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.arguments import Positive
from convae.core.random import numpy_generator
from convae.evaluation.factors import Factors
from convae.evaluation.metrics.base import FactorMetric

_BLOCK = 256
"""Number of votes computed at a time."""


class FactorVAE(FactorMetric):
    """FactorVAE score: accuracy of predicting a fixed factor from the latent value that varies least (Kim & Mnih 2018).

    arXiv:1802.05983. A vote draws images that share the value of one factor, and selects the latent value with the
    smallest variance relative to that over all images. A majority-vote classifier from latent values to factors is
    trained on some votes and tested on others. Images are drawn with replacement from the split, so each value of a
    factor should have many; values of a single image are not drawn. Constant latent values are omitted.

    Args:
        factors: columns that are factors; by default all.
        votes: number of training votes; there are half as many test votes.
        group: images per vote.
    """

    unit: ClassVar = "fraction"
    better: ClassVar = "higher"
    example: ClassVar = {"votes": 200}

    def __init__(
        self, *, factors: tuple[str, ...] | None = None, votes: Positive = 10_000, group: Positive = 64
    ) -> None:
        super().__init__(factors=factors)
        self.votes, self.group = votes, group

    def measure(self, latents: NDArray[np.float64], factors: Factors, seed: int) -> Mapping[str, float]:
        """The accuracy; 0 if all latent values are constant."""
        spread = latents.var(0, ddof=1)
        scaled = latents[:, spread > 0] / np.sqrt(spread[spread > 0])
        if not scaled.shape[1]:
            return {"": 0.0}
        votes = [
            self._count(scaled, factors, count, numpy_generator(seed, "votes", part))
            for part, count in enumerate((self.votes, max(self.votes // 2, 1)))
        ]
        majority = votes[0].argmax(0)
        correct = votes[1][majority, np.arange(scaled.shape[1])].sum()
        return {"": float(correct / votes[1].sum())}

    def _count(
        self, latents: NDArray[np.float64], factors: Factors, count: int, random: np.random.Generator
    ) -> NDArray[np.int64]:
        """Number of votes for each latent value by fixed factor, (factor, value)."""
        votes = np.zeros((len(factors.names), latents.shape[1]), np.int64)
        fixed = random.integers(len(factors.names), size=count)
        for factor, column in enumerate(factors.values.T):
            order = np.argsort(column, kind="stable")
            _, starts, sizes = np.unique(column[order], return_index=True, return_counts=True)
            first, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
            drawable = np.flatnonzero(size > 1)
            anchors = drawable[random.integers(len(drawable), size=int((fixed == factor).sum()))]
            for block in np.split(anchors, range(_BLOCK, len(anchors), _BLOCK)):
                drawn = first[block, None] + random.integers(size[block, None], size=(len(block), self.group))
                least = latents[order[drawn]].var(1, ddof=1).argmin(1)
                votes[factor] += np.bincount(least, minlength=latents.shape[1])
        return votes
