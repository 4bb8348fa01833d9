"""Spatial sizes along a network, after strided convolutions and their transposes."""

from __future__ import annotations

from collections.abc import Sequence


def halvings(sizes: Sequence[int], times: int) -> list[tuple[int, ...]]:
    """The sizes before and after each of several `same` convolutions of stride 2, largest first."""
    trace = [tuple(sizes)]
    for _ in range(times):
        trace.append(ceilings(trace[-1], [2] * len(sizes)))
    return trace


def ceilings(sizes: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """The sizes after a `same` convolution of those strides."""
    return tuple(-(-size // stride) for size, stride in zip(sizes, strides, strict=True))


def limit_strides(stride: int, sizes: Sequence[int]) -> list[int]:
    """The stride along each axis, limited to the size of the axis."""
    return [min(stride, size) for size in sizes]


def output_padding(small: Sequence[int], large: Sequence[int], stride: Sequence[int]) -> list[int]:
    """The output padding with which a `same` transposed convolution turns the small sizes into the large ones.

    It exists whenever a `same` convolution of that stride turns the large sizes into the small ones.
    """
    return [big - (little - 1) * step - 1 for little, big, step in zip(small, large, stride, strict=True)]
