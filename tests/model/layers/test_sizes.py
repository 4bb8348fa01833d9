"""Sizes and values of convolutions and their kin, for any kernel, stride and padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from convae.core.random import torch_generator
from convae.model.layers.conv import Conv, meetings
from convae.model.layers.conv_transpose import ConvTranspose

sizes = st.lists(st.integers(1, 13), min_size=1, max_size=3)
small = st.integers(1, 5)


@given(sizes, small, small, st.integers(1, 3))
def test_same_convolutions_give_the_size_over_the_stride_rounded_up(
    axes: list[int], kernel: int, stride: int, dilation: int
) -> None:
    strides = tuple(min(stride, size) for size in axes)
    layer = Conv((2, *axes), channels=3, kernel=kernel, stride=strides, dilation=dilation).to("meta")
    out = layer(torch.empty(1, 2, *axes, device="meta"))
    assert out.shape == (1, 3, *(-(-size // stride) for size in axes))


@given(sizes, small, small)
def test_same_transposed_convolutions_reach_every_size_that_a_convolution_left(
    axes: list[int], kernel: int, stride: int
) -> None:
    less = tuple(-(-size // stride) for size in axes)
    added = tuple(size - (little - 1) * stride - 1 for size, little in zip(axes, less, strict=True))
    layer = ConvTranspose((2, *less), channels=3, kernel=kernel, stride=stride, output_padding=added).to("meta")
    assert layer(torch.empty(1, 2, *less, device="meta")).shape == (1, 3, *axes)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_transposed_convolution_is_the_gradient_of_the_convolution(kernel: int, stride: int) -> None:
    conv = Conv((2, 9, 8), channels=3, kernel=kernel, stride=stride, bias=False)
    weight = torch.randn(3, 2, kernel, kernel, generator=torch_generator(0, "w"))
    conv.weight.data = weight
    x = torch.randn(1, 2, 9, 8, generator=torch_generator(0, "x"), requires_grad=True)
    y = conv(x)
    added = tuple(n - (m - 1) * stride - 1 for n, m in zip((9, 8), y.shape[2:], strict=True))
    back = ConvTranspose((3, *y.shape[2:]), channels=2, kernel=kernel, stride=stride, output_padding=added, bias=False)
    back.weight.data = weight
    seed = torch.randn(y.shape, generator=torch_generator(0, "y"))
    (wanted,) = torch.autograd.grad(y, x, seed)
    torch.testing.assert_close(back(seed), wanted)


def test_an_even_kernel_is_padded_by_one_more_at_the_end() -> None:
    layer = Conv((1, 5), channels=1, kernel=2, bias=False)
    layer.weight.data = torch.tensor([[[1.0, 10.0]]])
    out = layer(torch.arange(1.0, 6.0).reshape(1, 1, 5))
    assert out.flatten().tolist() == [21, 32, 43, 54, 5]


@given(st.integers(1, 9), small, small, st.integers(1, 2), st.integers(0, 2))
def test_meetings_are_what_a_convolution_of_ones_counts(
    size: int, kernel: int, stride: int, dilation: int, low: int
) -> None:
    ones = F.pad(torch.ones(1, 1, size), (low, low + 20))
    counts = F.conv1d(ones, torch.ones(1, 1, kernel), stride=stride, dilation=dilation)[..., :4]
    assert meetings(counts.shape[-1], size, kernel, stride, dilation, low) == counts.sum().item()


def test_depthwise_means_one_group_a_channel() -> None:
    layer = Conv((4, 6, 6), channels=8, groups="depthwise")
    assert layer.weight.shape == (8, 1, 3, 3)


@pytest.mark.parametrize(
    ("size", "stride", "kernel", "zeros"), [(6, 2, 3, (0, 1)), (7, 2, 3, (1, 1)), (6, 3, 2, (0, 0))]
)
def test_keras_padding_is_the_fewest_zeros_with_the_odd_one_at_the_end(
    size: int, stride: int, kernel: int, zeros: tuple[int, int]
) -> None:
    layer = Conv((1, size), channels=1, kernel=kernel, stride=stride, padding="keras", bias=False)
    torch.nn.init.ones_(layer.weight)
    x = torch.arange(1.0, size + 1).reshape(1, 1, size)
    wanted = F.conv1d(F.pad(x, zeros), torch.ones(1, 1, kernel), stride=stride)
    assert torch.equal(layer(x), wanted)
    assert wanted.shape[-1] == -(-size // stride)
