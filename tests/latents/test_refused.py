"""What the tools refuse, with the number or the name that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convae.core.errors import ConfigError, ConvaeError, DataError, ShapeError
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, open_split
from convae.latents import (
    Encoding,
    cluster,
    find_image,
    interpolate,
    project,
    read_labels,
    traverse,
)

Z = torch.randn(6, 3, generator=torch_generator(0, "z"))


def encoding(images: int) -> Encoding:
    return Encoding(Z[:images], torch.zeros(images, 3), None, [str(number) for number in range(images)])


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: cluster(torch.full((3, 2), float("nan")), 2), DataError, "NaN"),
        (lambda: cluster(Z[:2], "auto"), ConfigError, "got 2"),
        (lambda: cluster(Z, 0), ConfigError, "got 0"),
        (lambda: traverse(Z[0], encoding(6), torch.tensor([0]), 1), ConfigError, "got 1"),
        (lambda: interpolate(Z[:1], Z[1:2], 1), ConfigError, "got 1"),
        (lambda: interpolate(Z[:1], Z[:1, :2], 3), ShapeError, "2"),
        (lambda: project(Z[:1], "pca"), ConfigError, "1 of 3"),
    ],
)
def test_the_wrong_number_is_named(call: Callable[[], object], error: type[ConvaeError], word: str) -> None:
    with pytest.raises(error, match=word):
        call()


def test_clusters_of_one_latent_each_have_no_silhouette() -> None:
    assert cluster(Z, 6).silhouette is None
    assert cluster(Z, 2).silhouette is not None


def test_a_silhouette_of_many_latents_is_judged_on_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    heaps = Z.repeat(20, 1) + torch.arange(120)[:, None] % 2 * 100
    whole = cluster(heaps, 2).silhouette
    monkeypatch.setattr("convae.latents.clusters.JUDGED", 50)
    assert whole is not None
    assert cluster(heaps, 2).silhouette == pytest.approx(whole, abs=0.01)


def test_images_without_labels_have_none_by_any_name(digits: Split, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ConfigError, match="hue"):
        read_labels(digits, "hue")
    path = tmp_path_factory.mktemp("unlabeled") / "a.npy"
    np.save(path, np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ConfigError, match="no labels"):
        read_labels(open_split(DataConfig(source=str(path)), "all"))


def test_an_image_is_meant_by_its_number_or_its_name(
    shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    for number, name in enumerate(("cats/tom.png", "cats/two.png", "dogs/rex.png", "dogs/two.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 60 * number).save(tmp_path / name)
    images = open_split(DataConfig(source=str(tmp_path)), "all")
    for word in ("2", "dogs/rex.png", "rex.png"):
        assert find_image(word, images) == 2
    for word, said in {"4": "0 to 3", "dogs/rx.png": "dogs/rex.png", "two.png": "2 images", "zebra": "zebra"}.items():
        with pytest.raises(ConfigError, match=said):
            find_image(word, images)
