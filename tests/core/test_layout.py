"""Memory layout of feature maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convae.core.layout import repeat_rows

MAP = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
VOLUME = torch.arange(2 * 3 * 4 * 5 * 2.0).view(2, 3, 4, 5, 2)


@pytest.mark.parametrize(
    ("x", "layout"),
    [
        (torch.arange(2.0), torch.contiguous_format),
        (MAP, torch.contiguous_format),
        (MAP.contiguous(memory_format=torch.channels_last), torch.channels_last),
        (VOLUME.contiguous(memory_format=torch.channels_last_3d), torch.channels_last_3d),
    ],
    ids=["vector", "contiguous", "channels_last", "channels_last_3d"],
)
def test_rows_are_repeated_in_their_layout(x: Tensor, layout: torch.memory_format) -> None:
    repeated = repeat_rows(x, 3)
    assert torch.equal(repeated, x.repeat_interleave(3, 0))
    assert repeated.is_contiguous(memory_format=layout)
