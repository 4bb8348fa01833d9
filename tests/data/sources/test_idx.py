from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from narrow import present

from convae.core.errors import ConvaeError, DataError
from convae.data import DataConfig, open_split
from convae.data.sources.base import idx
from convae.data.sources.base.idx import idx_shape, read_idx

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
PLAIN = bytes([0, 0, 8, 3]) + np.array(IMAGES.shape, ">u4").tobytes() + IMAGES.tobytes()
PACKED = gzip.compress(PLAIN, mtime=0)  # the same test names in every process


@pytest.mark.parametrize(("name", "content"), [("a-idx3-ubyte", PLAIN), ("a-idx3-ubyte.gz", PACKED)])
def test_reads_plain_and_packed_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(read_idx(tmp_path / name, axes=3), IMAGES)
    assert idx_shape(tmp_path / name, axes=3) == (2, 3, 4)


FAULTS = {
    "one value missing": (PLAIN[:-1], "expected 24 values from its header, got only 23"),
    "one value too many": (PLAIN + b"x", "expected 24 values from its header, got more"),
    "a float type": (bytes([0, 0, 13, 3]) + PLAIN[4:], "not an IDX file"),
    "labels, not images": (bytes([0, 0, 8, 1]) + PLAIN[4:], "not an IDX file"),
    "half a header": (PLAIN[:10], "header is truncated"),
    "a size of 0": (PLAIN[:4] + bytes(4) + PLAIN[8:], "size of 0"),
    "far too large sizes": (PLAIN[:4] + b"\xff" * 12 + PLAIN[16:], "too short"),
    "nothing": (b"", "not an IDX file"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file_is_named_with_its_fault(tmp_path: Path, fault: str, packed: bool) -> None:
    content, message = FAULTS[fault]
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, axes=3)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [PACKED[:-1], PACKED[:-9], PACKED[:15], PACKED[:-8] + b"\0" * 8, b"not gzip", PACKED[:12] + b"\xff" + PACKED[13:]],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"images\.gz: damaged"):
        read_idx(tmp_path / "images.gz", axes=3)


@given(position=st.integers(0, len(PACKED) - 1), bit=st.integers(0, 7), cut=st.integers(0, len(PACKED)))
def test_no_damage_gives_anything_but_the_content_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int, cut: int
) -> None:
    damaged = bytearray(PACKED)
    damaged[position] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "damaged.gz"
    for content in (bytes(damaged), PACKED[:cut]):
        path.write_bytes(content)
        try:
            np.testing.assert_array_equal(read_idx(path, axes=3), IMAGES)
        except DataError as error:
            named = str(path) in str(error)
            assert named, error  # either outcome is right


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("inner", [False, True])
def test_files_are_found_in_the_folder_or_in_one_of_the_sets_name(
    tmp_path: Path, write_idx: Callable[..., Path], name: str, inner: bool
) -> None:
    write_idx(tmp_path / "data" / (name if inner else ""))
    split = open_split(DataConfig(source=name, dir=tmp_path / "data"), "test")
    assert (len(split), split.shape) == (5, (1, 6, 4))
    assert len(present(split.classes)) == 10


def test_the_environment_and_the_cache_are_searched_in_this_order(
    tmp_path: Path, write_idx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    write_idx(cache / "data" / "mnist", train=7)
    assert len(open_split(DataConfig(source="mnist"), "all")) == 12
    write_idx(tmp_path / "variable", train=8)
    monkeypatch.setenv("CONVAE_DATA", str(tmp_path / "variable"))
    assert len(open_split(DataConfig(source="mnist"), "all")) == 13
    write_idx(tmp_path / "given", train=9)
    assert len(open_split(DataConfig(source="mnist", dir=tmp_path / "given"), "all")) == 14
    with pytest.raises(DataError, match="not found"):
        open_split(DataConfig(source="mnist", dir=tmp_path / "none"), "all")


def test_debians_package_is_found(
    tmp_path: Path, write_idx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convae.data.sources.fashion_mnist import FashionMnist

    monkeypatch.setattr(FashionMnist, "system", write_idx(tmp_path / "system"))
    assert len(open_split(DataConfig(source="fashion-mnist"), "test")) == 5
    with pytest.raises(DataError, match="mnist: not found"):
        open_split(DataConfig(source="mnist"), "test")


def test_missing_files_are_named_with_their_origin_and_place(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    folder = write_idx(tmp_path / "data" / "mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        open_split(DataConfig(source="mnist", dir=tmp_path / "data"), "train")
    for part in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "https://", str(folder)):
        assert part in str(caught.value)


def replace(folder: Path, part: str, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    (folder / f"{part}-ubyte.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.mark.parametrize(
    ("part", "array", "message"),
    [
        ("train-labels-idx1", np.zeros(11), "11 labels for 12 images"),
        ("t10k-labels-idx1", np.full(5, 10), "has the label 10, but mnist has 10 classes"),
        ("t10k-images-idx3", np.zeros((5, 4, 4)), "4×4 differs from 6×4"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, write_idx: Callable[..., Path], cache: Path, part: str, array: np.ndarray, message: str
) -> None:
    replace(write_idx(tmp_path / "mnist"), part, array)
    with pytest.raises(ConvaeError, match=message):
        open_split(DataConfig(source="mnist", dir=tmp_path), "train")
    assert not [path for path in (cache / "stores").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    "where",
    [
        "{stem}-ubyte",
        "{dotted}-ubyte",
        "{dotted}-ubyte.gz",
        "{stem}-ubyte/{stem}-ubyte",
        "{dotted}-ubyte/{dotted}-ubyte",
    ],
)
def test_the_files_are_found_under_the_names_that_others_give_them(
    tmp_path: Path, write_idx: Callable[..., Path], where: str
) -> None:
    for path in write_idx(tmp_path / "published").iterdir():
        stem = path.name.removesuffix("-ubyte.gz")
        new = tmp_path / "data" / "mnist" / where.format(stem=stem, dotted=stem.replace("-idx", ".idx"))
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(path.read_bytes() if new.suffix == ".gz" else gzip.decompress(path.read_bytes()))
    assert len(open_split(DataConfig(source="mnist", dir=tmp_path / "data"), "test")) == 5


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("given", ["", "MNIST", "MNIST/raw", "FashionMNIST", "FashionMNIST/raw"])
def test_torchvisions_folders_are_found(tmp_path: Path, write_idx: Callable[..., Path], name: str, given: str) -> None:
    write_idx(tmp_path / "MNIST" / "raw", test=3)
    write_idx(tmp_path / "FashionMNIST" / "raw", test=4)
    expected = {"M": 3, "F": 4}.get(given[:1], 3 if name == "mnist" else 4)
    assert len(open_split(DataConfig(source=name, dir=tmp_path / given), "test")) == expected


def test_a_file_that_was_unpacked_and_kept_its_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(PLAIN)
    (tmp_path / "images").write_bytes(PACKED)
    for name in ("images.gz", "images"):
        np.testing.assert_array_equal(read_idx(tmp_path / name, axes=3), IMAGES)


def test_files_of_the_set_beside_it_are_not_taken_for_its_own(
    tmp_path: Path, write_idx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_idx(tmp_path / "raw")
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    monkeypatch.setattr(idx, "_TEST_LABELS", {hashlib.sha256(labels).hexdigest(): "fashion-mnist"})
    with pytest.raises(DataError, match=r"t10k-labels.* of fashion-mnist"):
        open_split(DataConfig(source="mnist", dir=tmp_path), "test")
    assert len(open_split(DataConfig(source="fashion-mnist", dir=tmp_path), "test")) == 5


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "images.gz"
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](path)
    with pytest.raises(DataError, match=r"images\.gz: .*(not a regular file|[Dd]irectory)"):
        read_idx(path, axes=3)
