"""A session uses images that a program holds like those of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import convae
from convae.core.errors import ConfigError, DataError
from convae.data import Split
from convae.evaluation import evaluate
from convae.latents import Session
from convae.latents.batches import require_split
from convae.model.vae import VAE


class Items:
    """Items as floats, one after the other."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._pixels[index]


def images_of(split: Split) -> torch.Tensor:
    return split.images(np.arange(len(split)))


def test_arrays_and_datasets_are_measured_like_the_data_set_they_are_from(model: VAE, digits: Split) -> None:
    pixels = images_of(digits)
    labels = torch.as_tensor(digits.labels)
    of_array = Session(model, data=pixels.numpy()).images
    of_dataset = Session(model, data=TensorDataset(pixels, labels)).images
    expected = evaluate(model, digits, metrics=["elbo", "psnr"])
    for found in (of_array, of_dataset):
        assert found.source != digits.source
        assert {found.part(index) for index in range(len(found))} == {"new"}
        assert evaluate(model, found, metrics=["elbo", "psnr"]).metrics == expected.metrics
    assert of_array.labels is None
    assert np.array_equal(of_dataset.labels, digits.labels)  # type: ignore[arg-type]  # None would not be equal
    assert torch.equal(
        Session(model, data=pixels).encode().mean, convae.Session(model, data=Items(pixels)).encode().mean
    )


def test_images_are_opened_again_when_one_changes(model: VAE, digits: Split) -> None:
    pixels = images_of(digits).clone()
    before = Session(model, data=Items(pixels)).images.content_hash
    pixels[150, 0, 3, 3] = 255 - pixels[150, 0, 3, 3]
    assert Session(model, data=Items(pixels)).images.content_hash != before


@pytest.mark.parametrize(
    ("data", "part"), [(np.zeros((5, 8, 8, 3)), "moveaxis"), (np.full((5, 1, 8, 8), 3.0), "3"), (7, "int")], ids=str
)
def test_objects_that_are_no_images_are_refused(data: Any, part: str, model: VAE) -> None:
    with pytest.raises(DataError, match=part):
        assert Session(model, data=data).images


def test_folders_are_paths_or_texts(model: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_OFFLINE", "1")
    with pytest.raises(DataError, match=str(tmp_path)):
        assert Session(model, data="fashion-mnist", data_dir=str(tmp_path)).images


def test_a_tensor_is_no_split(digits: Split) -> None:
    require_split(digits)
    with pytest.raises(ConfigError, match=r"Session.*\.images"):
        require_split(torch.rand(3, 1, 8, 8))
