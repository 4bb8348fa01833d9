"""What a term is: a cost of each image, in a stated unit, unweighted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from convae.core.types import Images, OutputLike, PerImage


class Term(nn.Module):
    """One named cost of an image; smaller is better. Configuration is keyword-only.

    `unit` is what the figure is measured in; a weight turns it into nats, the unit of the total.
    """

    unit: ClassVar[str] = "nats"
    example: ClassVar[Mapping[str, Any]] = {}

    def forward(self, x: Images, output: OutputLike) -> PerImage:
        """The cost of each image, (batch,), in `unit`."""
        raise NotImplementedError
