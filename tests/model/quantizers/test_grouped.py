"""Product quantization: each group by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantizing import run, values

from convae.core.errors import ShapeError
from convae.core.random import torch_generator
from convae.model.quantizers.base import Quantizer
from convae.model.quantizers.grouped import Grouped


def test_each_group_is_quantized_as_it_would_be_alone() -> None:
    made = Grouped(6, groups=3, quantizer={"vq": {"codes": 5}}).eval()
    with torch.no_grad():
        made.reset(torch_generator(0))
    x = values(6)
    found = run(made, x)
    assert found.codes.shape == (8, 3, 4, 4)
    for number, each in enumerate(made.quantizers):
        assert isinstance(each, Quantizer)
        alone = run(each, x[:, 2 * number : 2 * number + 2])
        assert torch.equal(alone.codes, found.codes[:, number])
        assert torch.equal(alone.latent, found.latent[:, 2 * number : 2 * number + 2])


def test_groups_and_levels_are_counted_together() -> None:
    inner: dict[str, Any] = {"residual": {"levels": 3, "quantizer": {"fsq": {"levels": [5, 3]}}}}
    made = Grouped(None, groups=2, quantizer=inner)
    assert (made.channels, made.codebook_sizes) == (4, (15,) * 6)
    codes = made.nearest(values(4))
    assert codes.shape == (8, 6, 4, 4)
    assert torch.equal(made.embed_codes(codes), made.posterior(values(4)).mean)


def test_channels_have_to_be_divisible() -> None:
    with pytest.raises(ShapeError, match="5 channels"):
        Grouped(5, groups=2, quantizer="vq")
