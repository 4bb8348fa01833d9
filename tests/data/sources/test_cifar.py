from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from narrow import present

from convae.core.errors import DataError
from convae.data import SOURCES, DataConfig, open_split
from convae.data.sources.cifar_10 import Cifar10
from convae.data.sources.cifar_100 import Cifar100

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (9, 3072), np.uint8)
LABELS = {"cifar-10": GENERATOR.integers(0, 10, (9, 1)), "cifar-100": GENERATOR.integers(0, 20, (9, 2))}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of nine images."""
    monkeypatch.setattr(Cifar10, "train", {f"data_batch_{number}": 1 for number in range(1, 6)})
    monkeypatch.setattr(Cifar10, "test", {"test_batch": 4})
    monkeypatch.setattr(Cifar100, "train", {"train": 5})
    monkeypatch.setattr(Cifar100, "test", {"test": 4})


def binary(name: str) -> dict[str, bytes]:
    """The files of the binary edition."""
    records = np.concatenate([LABELS[name].astype(np.uint8), PIXELS], axis=1)
    if name == "cifar-100":
        return {"train.bin": records[:5].tobytes(), "test.bin": records[5:].tobytes()}
    files = {f"data_batch_{row + 1}.bin": records[row].tobytes() for row in range(5)}
    return {**files, "test_batch.bin": records[5:].tobytes()}


def pack(path: Path, files: dict[str, bytes], folder: str = "inner/") -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"readme.html": b"<html>", **files}.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def unpack(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_archive_and_its_files_give_the_same_images(tmp_path: Path, name: str, packed: bool) -> None:
    files = binary(name)
    if packed:
        pack(tmp_path / f"{name}-binary.tar.gz", files)
    else:
        unpack(tmp_path / name / {"cifar-10": "cifar-10-batches-bin", "cifar-100": "cifar-100-binary"}[name], files)
    split = open_split(DataConfig(source=name, dir=tmp_path), "all")
    assert split.shape == (3, 32, 32)
    np.testing.assert_array_equal(split.images(range(9)).reshape(9, -1), PIXELS)
    for number, column in enumerate(split.columns.values()):
        np.testing.assert_array_equal(column.values, LABELS[name][:, number])
    np.testing.assert_array_equal(split.labels, LABELS[name][:, -1])
    assert len(open_split(DataConfig(source=name, dir=tmp_path), "test")) == 4


def test_cifar_100_has_a_hundred_classes_of_twenty_kinds(tmp_path: Path) -> None:
    pack(tmp_path / "cifar-100-binary.tar.gz", binary("cifar-100"))
    split = open_split(DataConfig(source="cifar-100", dir=tmp_path), "all")
    classes = present(split.classes)
    assert (len(classes), classes[0], classes[-1]) == (100, "apple", "worm")
    coarse = open_split(DataConfig(source="cifar-100", dir=tmp_path, label="coarse"), "all")
    assert len(present(coarse.classes)) == 20
    np.testing.assert_array_equal(coarse.labels, LABELS["cifar-100"][:, 0])
    with pytest.raises(Exception, match=r"data\.label: cifar-100: unknown column 'corse': did you mean 'coarse'"):
        open_split(DataConfig(source="cifar-100", dir=tmp_path, label="corse"), "all")


def test_archives_with_other_things_than_the_set_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"

    def message(files: dict[str, bytes]) -> str:
        pack(path, files)
        with pytest.raises(DataError) as caught:
            open_split(DataConfig(source="cifar-10", dir=tmp_path), "all")
        return str(caught.value)

    files = binary("cifar-10")
    assert "more data than the data set" in message({**files, "data_batch_1.bin": bytes(10**6)})
    assert "more data than the data set" in message({str(n): b"" for n in range(1001)})
    assert "expected 3073 bytes, got 3074" in message({**files, "data_batch_1.bin": bytes(3074)})
    assert "test_batch.bin missing" in message({name: files[name] for name in list(files)[:-1]})
    assert "invalid class 10" in message({**files, "data_batch_1.bin": b"\x0a" + bytes(3072)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged archive"):
        open_split(DataConfig(source="cifar-10", dir=tmp_path), "all")


def test_links_and_paths_in_an_archive_are_names_and_nothing_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(3073))
    path = tmp_path / "cifar-10-binary.tar.gz"
    files = binary("cifar-10")
    first = files.pop("data_batch_1.bin")
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
        for name, content in {"../../data_batch_1.bin": first, **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    split = open_split(DataConfig(source="cifar-10", dir=tmp_path), "all")
    np.testing.assert_array_equal(split.images(range(9)).reshape(9, -1), PIXELS)
    assert not (tmp_path.parent.parent / "data_batch_1.bin").exists()


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
def test_no_more_of_a_file_is_read_than_it_can_have(tmp_path: Path, name: str) -> None:
    target = SOURCES.get(name)
    for stem in (*target.train, *target.test):
        with (tmp_path / f"{stem}.bin").open("wb") as file:
            file.truncate(1 << 40)  # a hole that takes no room
    with pytest.raises(DataError, match="larger than"):
        open_split(DataConfig(source=name, dir=tmp_path), "test")
