"""Image files are preprocessed like the images that a model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convae
from convae.data import in_order


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {}),
        (1, {"interpolation": "bilinear"}),
        (1, {"binarize": "dynamic"}),
        (1, {"interpolation": "bilinear", "binarize": "threshold"}),
        (3, {"resize_mode": "pad"}),
        (3, {"missing": "alpha", "fill": 0.5, "binarize": "fixed"}),
    ],
)
def test_a_file_becomes_the_image_of_the_data_set(channels: int, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(6):
        values = np.random.default_rng(number).integers(0, 256, (19, 14, 4), np.uint8)
        values[:9, :, 3], values[9:, :, 3] = 0, 255
        pixels = values[..., 0] if channels == 1 else values
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    recipe = {
        "data": {"source": str(tmp_path / "photos"), "size": 8, "channels": channels, **options},
        "model": {
            "input": [channels, 8, 8],
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": 64 * channels}}, {"unflatten": {"to": [channels, 8, 8]}}],
        },
        "training": {"steps": 1, "batch_size": 2, "pictures_every": 0},
    }
    run = convae.train(recipe, out=tmp_path / "run", quiet=True)
    session = convae.Session(run.path, split="all", device="cpu")
    key = session.images.keys[0]
    (batch,) = in_order(session.images, len(session.images))
    found = session.encode_inputs([str(tmp_path / "photos" / key)])
    assert found.images[0].equal(batch.images[0])
