"""Labels of priors that depend on the class."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ShapeError
from convae.core.names import count_text


def class_indices(labels: Tensor | None, count: int, classes: int, device: torch.device) -> Tensor:
    """The class of each sample, (count,): its label, or `classes`, which stands for any class.

    Args:
        labels: (count,) class numbers, -1 if missing; None for any class.
        count: number of samples.
        classes: number of classes; 0 of a prior that ignores labels.
        device: of the result.

    Raises:
        ShapeError: there is not one label for each sample.
        ConfigError: a label is not a class number.
    """
    if labels is None or not classes:
        return torch.full((count,), classes, device=device)
    if labels.shape != (count,):
        raise ShapeError(f"expected one label for each of {count_text(count, 'sample')}, got {tuple(labels.shape)}")
    numbers = labels.to(device)
    if count and int(numbers.max()) >= classes:
        raise ConfigError(f"labels are class numbers from 0 to {classes - 1}, got {int(numbers.max())}")
    return torch.where(numbers < 0, classes, numbers)
