from __future__ import annotations

import gzip
import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from data.numbered import Numbered
from PIL import Image

from convae.data import Split
from convae.data.store.cache import open_store
from convae.data.store.store import ImageFormat


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, and no data sets but the test's own."""
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CONVAE_DATA", raising=False)
    monkeypatch.setenv("CONVAE_OFFLINE", "1")
    return tmp_path / "cache"


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx() -> Callable[..., Path]:
    """Writes the four files of a small MNIST-like set and returns their folder."""

    def write(folder: Path, train: int = 12, test: int = 5, size: tuple[int, int] = (6, 4), seed: int = 0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(seed)
        for part, count in (("train", train), ("t10k", test)):
            images = generator.integers(0, 256, (count, *size))
            labels = generator.integers(0, 10, count)
            (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
            (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
        return folder

    return write


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    """A smooth picture with some noise, which no codec or resizing turns into something else."""

    def make(width: int = 40, height: int = 30, mode: str = "RGB", seed: int = 0) -> Image.Image:
        generator = np.random.default_rng(seed)
        ramps = (
            np.linspace(0, 200, width)[None, :, None] * generator.random(3) + np.linspace(0, 50, height)[:, None, None]
        )
        pixels = (ramps + generator.random((height, width, 3)) * 5).astype(np.uint8)
        return Image.fromarray(pixels).convert(mode)

    return make


@pytest.fixture
def pictures(tmp_path: Path, photo: Callable[..., Image.Image]) -> Path:
    """A folder of images in two classes, all 40×30 RGB."""
    for index in range(10):
        path = tmp_path / "pictures" / ("cat" if index % 2 else "dog") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(seed=index).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def numbered() -> Callable[..., Split]:
    """A split of `count` such images."""

    def make(count: int, labels: bool = True) -> Split:
        source, image_format = Numbered(count, labels=labels), ImageFormat((2, 3), 3)
        store = open_store(source, source.fingerprint(), image_format)
        return Split("all", "numbered", store, np.arange(count), "all", store.label)

    return make


@pytest.fixture
def celeba_files(tmp_path: Path, photo: Callable[..., Image.Image]) -> Path:
    """The files of CelebA, with seven portraits and three attributes, in the official formats."""
    folder = tmp_path / "celeba"
    folder.mkdir()
    names = [f"{number:06d}.jpg" for number in range(1, 8)]
    parts = [0, 0, 0, 0, 1, 2, 2]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            content = io.BytesIO()
            photo(178, 218, seed=number).save(content, "JPEG")
            archive.writestr(f"img_align_celeba/{name}", content.getvalue())
    rows = list(zip(names, parts, strict=True))
    (folder / "list_eval_partition.txt").write_bytes(b"".join(f"{name} {part}\r\n".encode() for name, part in rows))
    (folder / "identity_CelebA.txt").write_bytes(
        b"".join(f"{name} {2880 - number}\r\n".encode() for number, name in enumerate(reversed(names)))
    )
    lines = ["7", "Bald Smiling Young "]
    lines += [f"{name} -1 {' 1' if number % 2 else '-1'}  1" for number, name in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return folder


@dataclass
class Picture:
    decode: bool = True


@dataclass
class Classes:
    names: list[str] = field(default_factory=list)


class Part:
    """The rows of one split, by columns."""

    def __init__(self, features: dict[str, Any], columns: dict[str, list[Any]], fingerprint: str = "f") -> None:
        self.features, self.columns, self._fingerprint = features, columns, fingerprint

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def cast_column(self, name: str, feature: Picture) -> Part:
        assert feature == Picture(decode=False)
        return Part({**self.features, name: feature}, self.columns, self._fingerprint)


FEATURES = {"id": "int", "picture": Picture(), "kind": Classes(["cat", "dog"]), "mood": Classes(["sad", "happy"])}


@pytest.fixture
def hub(
    monkeypatch: pytest.MonkeyPatch, photo: Callable[..., Image.Image], tmp_path: Path
) -> list[tuple[str | None, str | None, bool]]:
    """A hub with one data set: which configurations and revisions were asked for, and whether of the disk alone."""

    def content(seed: int) -> dict[str, Any]:
        file = io.BytesIO()
        photo(seed=seed).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    def part(count: int, first: int) -> Part:
        pictures = [content(first + row) for row in range(count)]
        columns: dict[str, list[Any]] = {
            "id": list(range(count)),
            "picture": pictures,
            "kind": [row % 2 for row in range(count)],
        }
        return Part(FEATURES, {**columns, "mood": [None, *[1] * (count - 1)]})

    photo(seed=50).save(tmp_path / "file.png")
    sets = {"owner/pets": {"test": part(3, 20), "train": part(6, 0), "extra": part(2, 40)}}
    sets["owner/pets"]["train"].columns["picture"][1:4] = [
        {"bytes": b"junk", "path": None},
        None,
        {"bytes": None, "path": str(tmp_path / "file.png")},
    ]
    asked: list[tuple[str | None, str | None, bool]] = []

    def load_dataset(
        path: str, config: str | None, *, revision: str | None, download_config: SimpleNamespace
    ) -> dict[str, Part]:
        asked.append((config, revision, download_config.local_files_only))
        if path not in sets:
            raise ConnectionError(f"Couldn't reach '{path}' on the Hub\nmore")
        return sets[path]

    module = ModuleType("datasets")
    vars(module).update(load_dataset=load_dataset, DownloadConfig=SimpleNamespace, Image=Picture, ClassLabel=Classes)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked
