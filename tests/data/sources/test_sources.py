"""What every data set keeps to; a new one needs a line in EXAMPLES."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import present

from convae.core.arguments import split_name
from convae.data import SOURCES, DataConfig, open_split
from convae.testing import check_source


def cifar(make: Callable[..., Any], name: str, count: int) -> str:
    """The binary edition, all of it zeros."""
    files = {"cifar-10": [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"], "cifar-100": ["train", "test"]}
    folder = make("tmp_path") / name
    folder.mkdir()
    target = SOURCES.get(name)
    for part in ("train", "test"):
        make("monkeypatch").setattr(target, part, dict.fromkeys(getattr(target, part), count))
    for stem in files[name]:
        (folder / f"{stem}.bin").write_bytes(bytes(count * (3072 + len(target.labels))))
    return name


def array_file(folder: Path) -> Path:
    np.save(folder / "a.npy", np.random.default_rng(0).integers(0, 2**16, (5, 6, 7), np.uint16))
    return folder / "a.npy"


def binarized(make: Callable[..., Any]) -> str:
    generator = np.random.default_rng(0)
    make("monkeypatch").setattr(SOURCES.get("binarized-mnist"), "counts", {"train": 3, "valid": 2, "test": 2})
    parts: dict[str, Any] = {
        key: generator.integers(0, 256, (count, 98), np.uint8)
        for key, count in zip(["train", "valid", "test"], [3, 2, 2], strict=True)
    }
    np.savez(make("tmp_path") / "binarized_mnist_packed.npz", **parts)
    return "binarized-mnist"


def table(folder: Path) -> Path:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    (folder / "table.csv").write_text("path,label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    return folder / "table.csv"


def archive(folder: Path) -> Path:
    path = folder.parent / "packed.tar"
    with tarfile.open(path, "w") as opened:
        opened.add(folder, "pictures")
    return path


def idx(make: Callable[..., Any], name: str) -> str:
    make("write_idx")(make("tmp_path") / name)
    return name


def hugging_face(make: Callable[..., Any]) -> dict[str, dict[str, str]]:
    make("hub")
    return {"hugging-face": {"path": "owner/pets"}}


EXAMPLES: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "cifar-10": lambda make: cifar(make, "cifar-10", 2),
    "cifar-100": lambda make: cifar(make, "cifar-100", 3),
    "arrays": lambda make: {"arrays": {"path": str(array_file(make("tmp_path")))}},
    "binarized-mnist": lambda make: binarized(make),
    "celeba": lambda make: make("celeba_files") and "celeba",
    "digits": lambda _: "digits",
    "files": lambda make: {"files": {"paths": [str(path) for path in sorted(make("pictures").rglob("*.png"))]}},
    "fashion-mnist": lambda make: idx(make, "fashion-mnist"),
    "folder": lambda make: {"folder": {"path": str(make("pictures"))}},
    "hugging-face": hugging_face,
    "manifest": lambda make: {"manifest": {"path": str(table(make("pictures")))}},
    "mnist": lambda make: idx(make, "mnist"),
    "signals": lambda _: {"signals": {"count": 5, "length": 32}},
    "sprites": lambda _: {"sprites": {"count": 5}},
    "tar": lambda make: {"tar": {"path": str(archive(make("pictures")))}},
    "voxels": lambda _: {"voxels": {"count": 5, "size": 8}},
}


@pytest.mark.parametrize("name", SOURCES.own_names())
def test_every_source_keeps_its_contract(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source, options = split_name(EXAMPLES[name](request.getfixturevalue), "data.source")
    assert source == name
    check_source(source, options, folder=tmp_path)


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    split = open_split(DataConfig(source="digits"), "all")
    assert (len(split), split.shape) == (1797, (1, 8, 8))
    images = split.images(range(1797)).numpy()[:, 0]
    np.testing.assert_allclose(images / 255, bunch.images / 16, atol=0.5 / 255 + 1e-12)
    assert images.max() == 255
    np.testing.assert_array_equal(split.labels, bunch.target)


def real_data(name: str) -> Path | None:
    """The folder of the published files of a set, where this machine has them."""
    given = os.environ.get("CONVAE_DATA")
    folders = [Path(given)] if given else [Path(__file__).parents[3] / "shared" / "data"]
    return next((place for place in folders if (place / name).is_dir()), None)


# Labels per class and the mean of all training pixels, as published.
PUBLISHED = {
    "mnist": ([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], 0.1307, 0.3081),
    "fashion-mnist": ([6000] * 10, 0.2860, 0.3530),
}
PRESENT = {name: place for name in PUBLISHED if (place := real_data(name))}

if PRESENT:

    def test_the_binarized_digits_have_their_published_figures() -> None:
        config = DataConfig(source="binarized-mnist", dir=next(iter(PRESENT.values())))
        splits = {part: open_split(config, part) for part in ("train", "validation", "test")}
        assert {part: len(split) for part, split in splits.items()} == {
            "train": 50000,
            "validation": 10000,
            "test": 10000,
        }
        counted = np.bincount(splits["test"].images(range(10000)).numpy().ravel(), minlength=256)
        assert set(np.flatnonzero(counted)) == {0, 255}
        assert round(float(counted[255] / counted.sum()), 5) == 0.13251

    @pytest.mark.parametrize("name", PRESENT)
    def test_published_files_have_their_published_figures(name: Any) -> None:
        counts, mean, deviation = PUBLISHED[name]
        train = open_split(DataConfig(source=name, dir=PRESENT[name], validation=0), "train")
        assert (len(train), train.shape) == (60000, (1, 28, 28))
        np.testing.assert_array_equal(np.bincount(present(train.labels)), counts)
        shares = np.bincount(train.images(range(60000)).numpy().ravel(), minlength=256) / (60000 * 28 * 28)
        values = np.arange(256) / 255
        assert round(float(shares @ values), 4) == mean
        assert round(float(shares @ (values - shares @ values) ** 2) ** 0.5, 4) == deviation
        assert len(open_split(DataConfig(source=name, dir=PRESENT[name]), "test")) == 10000
