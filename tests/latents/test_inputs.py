"""Image files are preprocessed like the images that a model was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convae
from convae.data import in_order


@pytest.mark.parametrize(
    ("interpolation", "binarize"),
    [("bicubic", None), ("bilinear", None), ("bicubic", "dynamic"), ("bilinear", "threshold")],
)
def test_a_file_becomes_the_image_of_the_data_set(interpolation: str, binarize: str | None, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(6):
        values = np.random.default_rng(number).integers(0, 256, (19, 19), np.uint8)
        Image.fromarray(values).save(tmp_path / "photos" / f"{number}.png")
    recipe = {
        "data": {
            "source": str(tmp_path / "photos"),
            "size": 8,
            "channels": 1,
            "interpolation": interpolation,
            "binarize": binarize,
        },
        "model": {
            "input": [1, 8, 8],
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
        },
        "training": {"steps": 1, "batch_size": 2, "pictures_every": 0},
    }
    run = convae.train(recipe, out=tmp_path / "run", quiet=True)
    session = convae.Session(run.path, split="all", device="cpu")
    key = session.images.keys[0]
    (batch,) = in_order(session.images, len(session.images))
    found = session.encode_inputs([str(tmp_path / "photos" / key)])
    assert found.images[0].equal(batch.images[0])
