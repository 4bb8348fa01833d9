from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageColor

from convae.pictures.style import PALETTE, font

# Machado, Oliveira and Fernandes (2009), full severity, linear RGB.
SEEN = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* of linear sRGB, D65."""
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    ratio = to_xyz @ linear.clip(0, 1) / np.array([0.95047, 1, 1.08883])
    root = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("sight", SEEN)
def test_ten_colors_stay_apart_for_every_sight(sight: str) -> None:
    values = np.array([ImageColor.getrgb(color) for color in PALETTE]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = [lab(SEEN[sight] @ color) for color in linear]
    assert len(PALETTE) == 10
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 16
    assert max(color[0] for color in seen) < 85


def test_the_font_has_the_signs_of_the_field() -> None:
    missing = bytes(font(15).getmask("\uffff"))
    assert all(bytes(font(15).getmask(sign)) != missing for sign in "βσμλ×±≥–²")
