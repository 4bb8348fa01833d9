"""Finite scalar quantization, against vector-quantize-pytorch and the formulas of the paper."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.model.quantizers.fsq import FSQ


def values(channels: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(4, channels, 6, 5, generator=torch_generator(0, "x"))


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 5, 5, 5, 5), (3,), (4, 3, 16)])
def test_values_codes_and_gradients_are_those_of_vector_quantize_pytorch(levels: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vector_quantize_pytorch
    oracle = vector_quantize_pytorch.FSQ(levels=list(levels))
    ours = FSQ(None, levels=levels)
    x, again = (values(len(levels)).requires_grad_() for _ in range(2))
    latent = ours(x)
    wanted, codes = oracle(again)
    assert torch.equal(ours.nearest(x), codes.long())
    torch.testing.assert_close(latent, wanted, rtol=0, atol=1e-6)
    (latent**3).sum().backward()
    (wanted**3).sum().backward()
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.embed_codes(codes.long()), oracle.indices_to_codes(codes), rtol=0, atol=1e-6)


def test_every_code_is_reached_and_found_again() -> None:
    ours = FSQ(3, levels=(8, 5, 4))
    codes = torch.arange(160).view(2, 8, 10)
    vectors = ours.embed_codes(codes)
    assert len(vectors.movedim(1, -1).flatten(0, -2).unique(dim=0)) == 160
    grid = torch.cartesian_prod(*[torch.linspace(-4, 4, 30)] * 3)
    assert torch.equal(ours.nearest(grid).unique(), torch.arange(160))
    # Bounding is monotonic: of each channel, the outer levels are those of large values.
    ends = ours.posterior(torch.tensor([[9.0, 9.0, 9.0], [-9.0, -9.0, -9.0]]))
    assert ends.codes.tolist() == [159, 0]
    assert ends.mean.tolist() == [[0.75, 1.0, 0.5], [-1.0, -1.0, -1.0]]


def test_channels_are_those_of_the_levels() -> None:
    with pytest.raises(ShapeError, match="3 channels"):
        FSQ(4, levels=(8, 5, 4))
    with pytest.raises(ConfigError, match="16,777,216"):
        FSQ(None, levels=(300, 300, 300))
