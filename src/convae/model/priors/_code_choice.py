"""Drawing codes from their logits."""

from __future__ import annotations

import torch
from torch import Tensor


class CodeChoice:
    """Chooses codes from logits at uniform values; see `Transformer.sample`."""

    def __init__(self, temperature: float, top_k: int | None, top_p: float | None) -> None:
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p

    def __call__(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """(batch,) codes from (batch, code) logits."""
        if self._temperature == 0:
            return logits.argmax(1)
        probabilities = torch.softmax(logits.double() / self._temperature, 1)
        if self._top_k is not None or self._top_p is not None:
            probabilities = self._truncated(probabilities)
        ends = probabilities.cumsum(1)
        chosen = torch.searchsorted(ends, uniform[:, None] * ends[:, -1:], right=True)[:, 0]
        # The last code with a probability, where rounding leads beyond it.
        last = logits.shape[1] - 1 - (probabilities > 0).flip(1).int().argmax(1)
        return torch.minimum(chosen, last)

    def _truncated(self, probabilities: Tensor) -> Tensor:
        """Probabilities, (batch, code), with all but the most probable codes set to 0."""
        ordered, order = probabilities.sort(dim=1, descending=True, stable=True)
        keep = torch.ones_like(ordered, dtype=torch.bool)
        if self._top_k is not None:
            keep[:, self._top_k :] = False
        if self._top_p is not None:
            # A code is kept if those before it do not have the probability yet.
            keep &= ordered.cumsum(1) - ordered < self._top_p
        return torch.zeros_like(probabilities).scatter(1, order, ordered * keep)
