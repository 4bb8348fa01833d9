"""The source of tar archives: shards as WebDataset writes them, and packed folders."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import narrow, present
from PIL import Image

from convae.core.errors import DataError
from convae.data import SOURCES, DataConfig, Split, open_split
from convae.data.sources.base import PARTS, Record, Source

Photo = Callable[..., Image.Image]


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def opened(path: Path | str, **options: Any) -> Split:
    return open_split(DataConfig(source={"tar": {"path": str(path), **options}}), "all")


@pytest.fixture
def shards(tmp_path: Path, photo: Photo) -> Path:
    """Two archives of training samples and one for validation, of two samples each."""
    for number, stem in enumerate(["train-0000", "train-0001", "val-0000"]):
        files: dict[str, bytes] = {}
        for row in range(2):
            key = f"{number}{row}"
            files[f"{key}.cls"] = str(row).encode()
            files[f"{key}.json"] = json.dumps({"kind": ["dog", "cat"][row], "text": key, "size": [1, 2]}).encode()
            files[f"{key}.png"] = encoded(photo(seed=2 * number + row))
        pack(tmp_path / "shards" / f"{stem}.tar", files)
    return tmp_path / "shards"


def test_shards_have_samples_with_classes_and_parts(shards: Path, photo: Photo) -> None:
    split = opened(shards)
    assert split.keys == [f"{stem}/{key}.png" for stem, key in zip(
        ["train-0000"] * 2 + ["train-0001"] * 2 + ["val-0000"] * 2, ["00", "01", "10", "11", "20", "21"], strict=True
    )]  # fmt: skip
    assert (split.classes, present(split.labels).tolist()) == (None, [0, 1] * 3)
    expected = np.stack([np.moveaxis(np.array(photo(seed=seed)), -1, 0) for seed in range(6)])
    np.testing.assert_array_equal(split.images(range(6)).numpy(), expected)
    config = DataConfig(source={"tar": {"path": str(shards)}})
    assert open_split(config, "validation").keys == ["val-0000/20.png", "val-0000/21.png"]


def test_a_label_is_a_file_or_a_field_of_json(shards: Path) -> None:
    split = opened(shards, label="kind")
    assert (split.classes, present(split.labels).tolist()) == (("cat", "dog"), [1, 0] * 3)
    with pytest.raises(DataError, match="did you mean 'kind'"):
        opened(shards, label="knd")
    with pytest.raises(DataError, match=r"00.json: size must be a string or an integer"):
        opened(shards, label="size")


def test_patterns_name_archives(shards: Path) -> None:
    assert len(open_split(DataConfig(source=f"{shards}/train-{{0000..0001}}.tar"), "all")) == 4
    assert len(open_split(DataConfig(source=f"{shards}/train-*.tar"), "all")) == 4
    with pytest.raises(DataError, match=r"train-0002.tar: no such file \(2 of 4 archives missing\)"):
        opened(f"{shards}/train-{{0000..0003}}.tar")
    with pytest.raises(DataError, match="no tar archive"):
        opened(shards / "none-*.tar")
    with pytest.raises(DataError, match=r"tar: \{path: "):
        open_split(DataConfig(source=str(shards)), "all")
    for name in ("*.npz", "{0..3}.csv", "*.png"):
        with pytest.raises(DataError, match="only tar archives"):
            open_split(DataConfig(source=str(shards / name)), "all")


def test_of_several_images_in_a_sample_one_is_chosen(tmp_path: Path, photo: Photo) -> None:
    image, mask = encoded(photo(), "JPEG"), encoded(photo(mode="L"))
    path = pack(tmp_path / "a.tar", {"1.jpg": image, "1.mask.png": mask, "1.cls": b"dog", "2.jpg": image})
    with pytest.raises(DataError, match=r"jpg, mask.png. Set image"):
        opened(path)
    split = opened(path, image="jpg")
    assert (split.keys, split.classes, present(split.labels).tolist()) == (["a/1.jpg", "a/2.jpg"], ("dog",), [0, -1])
    assert opened(path, image="mask.png").shape[0] == 1
    with pytest.raises(DataError, match=r"no images .webp"):
        opened(path, image="webp")


def test_a_packed_folder_is_read_like_the_folder(tmp_path: Path, photo: Photo) -> None:
    names = [f"{part}/{kind}/{row}.v2.png" for part in ("train", "test") for kind in ("cat", "dog") for row in range(2)]
    files = {f"./pets/{name}": encoded(photo(seed=seed)) for seed, name in enumerate(names)}
    beside = {"./pets/README.txt": b"pets", "./pets/train/._0.png": b"junk"}
    packed = open_split(DataConfig(source=str(pack(tmp_path / "pets.tar", {**files, **beside}))), "all")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    folder = open_split(DataConfig(source=str(tmp_path / "pets")), "all")
    order = np.argsort(packed.keys)
    assert [packed.keys[row] for row in order] == [f"pets/pets/{key}" for key in sorted(folder.keys)]
    assert packed.classes == folder.classes
    np.testing.assert_array_equal(present(packed.labels)[order], folder.labels)
    np.testing.assert_array_equal(packed.images(order).numpy(), folder.images(range(8)).numpy())


def test_the_last_of_two_files_with_one_name_counts(tmp_path: Path, photo: Photo) -> None:
    path = pack(tmp_path / "a.tar", {"1.png": encoded(photo(seed=0)), "2.png": encoded(photo(seed=1))})
    with tarfile.open(path, "a") as archive:
        content = encoded(photo(seed=2))
        member = tarfile.TarInfo("1.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    split = opened(path)
    assert split.keys == ["a/1.png", "a/2.png"]
    np.testing.assert_array_equal(split.images([0]).numpy()[0], np.moveaxis(np.array(photo(seed=2)), -1, 0))


def test_images_of_added_archives_are_decoded_alone(
    shards: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(shards)
    pack(shards / "train-0002.tar", {"30.png": encoded(photo(seed=9)), "31.png": b"junk"})
    read: list[int] = []
    source = SOURCES.get("tar")
    record = source.record

    def counted(self: Source, index: int, near: tuple[int, ...]) -> Record:
        read.append(index)
        return narrow(Record, record(self, index, near))

    monkeypatch.setattr(source, "record", counted)
    split = opened(shards)
    assert len(split) == len(first) + 1
    assert len(read) == 2
    assert dict(split.skipped) == {"train-0002/31.png": "not an image in a format that Pillow supports"}


def test_damaged_and_compressed_archives_are_one_sentence(tmp_path: Path, photo: Photo) -> None:
    good = pack(tmp_path / "good.tar", {"1.png": encoded(photo()), "2.png": encoded(photo(seed=1))})
    with tarfile.open(good) as archive:
        second = archive.getmembers()[1].offset
    content = good.read_bytes()
    cases = {
        "cut in a header": (content[: second + 100], "damaged archive"),
        "header": (content[:second] + b"x" * 512 + content[second + 512 :], f"damaged archive.*byte {second:,}"),
        "short": (content[:4000], "damaged archive"),
        "junk": (b"no archive" * 100, "damaged archive"),
        "packed": (gzip.compress(content), "gunzip"),
        "empty": (pack(tmp_path / "none.tar", {"a.txt": b""}).read_bytes(), "contains no images"),
    }
    for name, (damaged, message) in cases.items():
        path = tmp_path / f"{name}.tar"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message) as caught:
            opened(path)
        assert str(path) in str(caught.value) or name == "empty"
    broken = pack(tmp_path / "json.tar", {"1.png": encoded(photo()), "1.json": b"{"})
    with pytest.raises(DataError, match=r"1.json: not JSON"):
        opened(broken, label="kind")


def test_parts_of_folders_of_archives(tmp_path: Path, photo: Photo) -> None:
    for seed, name in enumerate(["train/0000", "val/0000", "more-0000"]):
        pack(tmp_path / f"{name}.tar", {f"{seed}.png": encoded(photo(seed=seed)), f"{seed}.cls": b"-1"})
    split = opened(tmp_path)
    assert split.keys == ["more-0000/2.png", "train/0000/0.png", "val/0000/1.png"]
    assert present(split.labels).tolist() == [-1, -1, -1]
    config = DataConfig(source={"tar": {"path": str(tmp_path)}})
    assert open_split(config, PARTS[1]).keys == ["val/0000/1.png"]
    assert open_split(config, "train").keys != []
