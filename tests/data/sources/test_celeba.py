from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import present

from convae.core.errors import DataError
from convae.data import DataConfig, Split, open_split
from convae.describe import resolve
from convae.model.construct import construct
from convae.training.recipe.reading import read_recipe


def everything(folder: Path, **options: Any) -> Split:
    return open_split(DataConfig(source="celeba", dir=folder, **options), "all")


def test_the_official_partition_the_attributes_and_the_identities(celeba_files: Path) -> None:
    config = DataConfig(source="celeba", dir=celeba_files, size=64)
    splits = {name: open_split(config, name) for name in ("train", "validation", "test")}
    assert [splits["train"].keys[0], *splits["validation"].keys, *splits["test"].keys] == [
        "000001.jpg",
        "000005.jpg",
        "000006.jpg",
        "000007.jpg",
    ]
    split = everything(celeba_files)
    assert split.shape == (3, 218, 178)
    assert list(split.columns) == ["identity", "Bald", "Smiling", "Young"]
    assert split.columns["identity"].values.tolist() == [2874, 2875, 2876, 2877, 2878, 2879, 2880]
    assert split.columns["Smiling"].values.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert (split.labels, split.classes) == (None, None)
    smiling = everything(celeba_files, label="Smiling")
    assert smiling.classes == ("no", "yes")
    assert present(smiling.labels).tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_an_unpacked_folder_gives_the_same(celeba_files: Path) -> None:
    packed = everything(celeba_files)
    with zipfile.ZipFile(celeba_files / "img_align_celeba.zip") as archive:
        archive.extractall(celeba_files)
    (celeba_files / "img_align_celeba.zip").unlink()
    unpacked = everything(celeba_files)
    assert unpacked.content_hash == packed.content_hash
    np.testing.assert_array_equal(unpacked.images(range(7)), packed.images(range(7)))


def test_a_bad_portrait_costs_itself_alone(celeba_files: Path) -> None:
    archive = celeba_files / "img_align_celeba.zip"
    with zipfile.ZipFile(archive) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    contents["img_align_celeba/000002.jpg"] = b"no image"
    contents["img_align_celeba/000003.jpg"] = bytes(5 << 20)
    del contents["img_align_celeba/000004.jpg"]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in contents.items():
            new.writestr(name, content)
    split = everything(celeba_files)
    assert split.keys == [f"00000{number}.jpg" for number in (1, 5, 6, 7)]
    assert [name for name, _ in split.skipped] == [f"00000{number}.jpg" for number in (2, 3, 4)]
    assert split.columns["Smiling"].values.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list_eval_partition.txt", "000001.jpg 3\n", "parts must be 0, 1 or 2"),
        ("list_eval_partition.txt", "000001.jpg\n", "name and a number"),
        ("list_eval_partition.txt", "", "empty"),
        ("identity_CelebA.txt", "000001.jpg 1\n", "000002.jpg missing"),
        ("list_attr_celeba.txt", "1\nBald\n000001.jpg 1\n", "000002.jpg"),
        ("list_attr_celeba.txt", "7\nBald\n" + "".join(f"00000{n}.jpg 2\n" for n in range(1, 8)), "7 rows of 1"),
        ("list_attr_celeba.txt", "seven", "damaged"),
        ("img_align_celeba.zip", "no archive", "damaged archive"),
    ],
)
def test_damaged_lists_are_named(celeba_files: Path, name: str, content: str, message: str) -> None:
    (celeba_files / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        everything(celeba_files)
    assert name in str(caught.value)


def test_a_list_that_is_no_text_or_no_file_is_named(celeba_files: Path) -> None:
    path = celeba_files / "identity_CelebA.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"identity_CelebA\.txt.*text"):
        everything(celeba_files)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"identity_CelebA\.txt"):
        everything(celeba_files)


def test_a_portrait_whose_bytes_are_damaged_costs_itself_alone(celeba_files: Path) -> None:
    archive = celeba_files / "img_align_celeba.zip"
    with zipfile.ZipFile(archive) as packed:
        member = packed.getinfo("img_align_celeba/000003.jpg")
    content = bytearray(archive.read_bytes())
    place = member.header_offset + 30 + len(member.filename) + member.compress_size // 2
    content[place : place + 20] = bytes(20)
    archive.write_bytes(content)
    split = everything(celeba_files)
    assert [name for name, _ in split.skipped] == ["000003.jpg"]
    assert len(split) == 6


def test_missing_files_are_named_with_their_origin_and_place(celeba_files: Path) -> None:
    (celeba_files / "identity_CelebA.txt").unlink()
    with pytest.raises(DataError) as caught:
        everything(celeba_files.parent)
    for part in ("img_align_celeba.zip", "identity_CelebA.txt", "https://mmlab", str(celeba_files)):
        assert part in str(caught.value)


def test_the_packaged_recipe_reads_the_official_layout_and_fits_its_model(celeba_files: Path) -> None:
    recipe = read_recipe("celeba", [f"data.dir={celeba_files}"])
    counts = [len(open_split(recipe.data, part)) for part in ("train", "validation", "test")]
    assert counts == [4, 1, 2]
    assert open_split(recipe.data, "train").shape == construct(resolve(recipe.model)).input_shape == (3, 64, 64)
