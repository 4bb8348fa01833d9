from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convae.core.errors import DataError
from convae.data import SOURCES, DataConfig, open_split
from convae.data.inert_pickle import Call, pickled_bytes, read_pickle
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


def python2(value: object) -> bytes:
    """A pickle as Python 2 wrote the Python edition: byte strings, arrays of bytes, protocol 2."""
    if isinstance(value, bytes):
        return b"T" + len(value).to_bytes(4, "little") + value
    if isinstance(value, np.ndarray):
        shape = pickle.dumps(value.shape, 2)[2:-1].replace(b"q\x00", b"")
        kind = (
            b"cnumpy\ndtype\n"
            + b"("
            + python2(b"u1")
            + b"K\x00K\x01tR(K\x03"
            + python2(b"|")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        )
        empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + python2(b"b") + b"tRq\x01"
        return empty + b"(K\x01" + shape + kind + b"\x89" + python2(value.tobytes()) + b"tb"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(key) + python2(item) for key, item in value.items()) + b"u"
    return pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"")


def python(name: str) -> dict[str, bytes]:
    """The files of the Python edition."""
    keys = [b"labels"] if name == "cifar-10" else [b"coarse_labels", b"fine_labels"]

    def file(rows: slice) -> bytes:
        columns = {key: LABELS[name][rows, number].tolist() for number, key in enumerate(keys)}
        return b"\x80\x02" + python2({b"data": PIXELS[rows], **columns, b"batch_label": b"a batch"}) + b"."

    if name == "cifar-100":
        return {"train": file(slice(5)), "test": file(slice(5, 9))}
    files = {f"data_batch_{row + 1}": file(slice(row, row + 1)) for row in range(5)}
    return {**files, "test_batch": file(slice(5, 9))}


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
@pytest.mark.parametrize("edition", ["binary", "python"])
@pytest.mark.parametrize("packed", [True, False])
def test_both_editions_packed_or_not_give_the_same_images(tmp_path, name, edition, packed):
    files = (binary if edition == "binary" else python)(name)
    if packed:
        pack(tmp_path / f"{name}-{edition}.tar.gz", files)
    elif name == "cifar-10":
        unpack(tmp_path / name / {"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"}[edition], files)
    else:
        unpack(tmp_path / name / f"cifar-100-{edition}", files)
    split = open_split(DataConfig(source=name, dir=tmp_path), "all")
    assert split.shape == (3, 32, 32)
    np.testing.assert_array_equal(split.images(range(9)).reshape(9, -1), PIXELS)
    for number, column in enumerate(split.columns.values()):
        np.testing.assert_array_equal(column.values, LABELS[name][:, number])
    np.testing.assert_array_equal(split.labels, LABELS[name][:, -1])
    assert len(open_split(DataConfig(source=name, dir=tmp_path), "test")) == 4


def test_cifar_100_has_a_hundred_classes_of_twenty_kinds(tmp_path):
    pack(tmp_path / "cifar-100-binary.tar.gz", binary("cifar-100"))
    split = open_split(DataConfig(source="cifar-100", dir=tmp_path), "all")
    assert (len(split.classes), split.classes[0], split.classes[-1]) == (100, "apple", "worm")
    coarse = open_split(DataConfig(source="cifar-100", dir=tmp_path, label="coarse"), "all")
    assert len(coarse.classes) == 20
    np.testing.assert_array_equal(coarse.labels, LABELS["cifar-100"][:, 0])
    with pytest.raises(Exception, match=r"data\.label: cifar-100: unknown column 'corse': did you mean 'coarse'"):
        open_split(DataConfig(source="cifar-100", dir=tmp_path, label="corse"), "all")


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path, protocol):
    mark = tmp_path / "owned"
    hostile = pickle.dumps({"data": Hostile(mark), "labels": [0]}, protocol)
    pack(tmp_path / "cifar-10-python.tar.gz", {**python("cifar-10"), "data_batch_3": hostile})
    with pytest.raises(DataError, match=r"data_batch_3: (does not hold an array of bytes|.*plain values and arrays)"):
        open_split(DataConfig(source="cifar-10", dir=tmp_path), "all")
    assert not mark.exists()
    # The same bytes do run when they are unpickled.
    pickle.loads(hostile)
    assert mark.exists()


def test_what_a_pickle_would_call_is_a_note():
    found = read_pickle(pickle.dumps({"x": Hostile(Path("x"))}, 2), "here")
    assert found == {"x": Call("posix system", ("touch x",))}


@given(
    value=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        ),
        max_size=4,
    ),
    protocol=st.integers(0, 2),
)
def test_plain_values_come_out_as_they_went_in(value, protocol):
    def without_bytes(item):
        if isinstance(item, bytes):
            return ""
        if isinstance(item, dict):
            return {key: without_bytes(inner) for key, inner in item.items()}
        return type(item)(map(without_bytes, item)) if isinstance(item, list | tuple) else item

    # Protocols below 3 write bytes as a call.
    value = without_bytes(value)
    assert read_pickle(pickle.dumps(value, protocol), "here") == value


@pytest.mark.parametrize("protocol", [3, 4])
def test_the_arrays_of_later_pythons_are_read(protocol):
    found = read_pickle(pickle.dumps({"data": PIXELS}, protocol), "here")
    np.testing.assert_array_equal(pickled_bytes(found["data"], PIXELS.shape, "here"), PIXELS)
    with pytest.raises(DataError, match="here: does not hold an array of bytes of the shape"):
        pickled_bytes(found["data"], (3, 3072), "here")


@given(position=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 10**6))
def test_no_damage_of_a_pickle_gives_a_traceback(position, value, cut):
    content = bytearray(python("cifar-10")["data_batch_1"])
    content[position % len(content)] = value
    for damaged in (bytes(content), bytes(content[: cut % len(content)])):
        try:
            found = read_pickle(damaged, "here")
            pickled_bytes(found.get("data"), (1, 3072), "here")
        except DataError as error:
            assert str(error).startswith("here: ")  # either outcome is right


def test_archives_with_other_things_than_the_set_are_refused(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"

    def message(files: dict[str, bytes]) -> str:
        pack(path, files)
        with pytest.raises(DataError) as caught:
            open_split(DataConfig(source="cifar-10", dir=tmp_path), "all")
        return str(caught.value)

    files = binary("cifar-10")
    assert "holds more than the data set has" in message({**files, "data_batch_1.bin": bytes(10**6)})
    assert "holds more than the data set has" in message({str(n): b"" for n in range(1001)})
    assert "holds 3074 bytes instead of 3073" in message({**files, "data_batch_1.bin": bytes(3074)})
    assert "lacks test_batch.bin" in message({name: files[name] for name in list(files)[:-1]})
    assert "holds the class 10" in message({**files, "data_batch_1.bin": b"\x0a" + bytes(3072)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged archive"):
        open_split(DataConfig(source="cifar-10", dir=tmp_path), "all")


def test_links_and_paths_in_an_archive_are_names_and_nothing_else(tmp_path):
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
def test_no_more_of_a_file_is_read_than_it_can_have(tmp_path, name):
    target = SOURCES.get(name)
    for stem in (*target.train, *target.test):
        with (tmp_path / f"{stem}.bin").open("wb") as file:
            file.truncate(1 << 40)  # a hole that takes no room
    with pytest.raises(DataError, match="larger than"):
        open_split(DataConfig(source=name, dir=tmp_path), "test")
