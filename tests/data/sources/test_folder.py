from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import present
from PIL import Image

from convae.core.errors import ConfigError, DataError
from convae.data import DataConfig, Split, open_split
from convae.data.data_dirs import DataDirs
from convae.data.sources.base import Survey
from convae.data.sources.folder import Folder


def everything(path: dict[str, dict[str, int | str]] | Path | str, **options: Any) -> Split:
    return open_split(DataConfig(source=path, **options), "all")


def names(path: Path) -> list[str]:
    return list(Folder(DataDirs(), path=path).listing().names)


def test_nested_images_of_every_suffix_are_found_in_order(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    wanted = [
        "B/x.JPEG",
        "B/y/deep/z.webp",
        "a.PNG",
        "b.jpg",
        "c.bmp",
        "d.gif",
        "e.tif",
        "f.tiff",
        "g.ppm",
        "h.pgm",
        "i.pbm",
    ]
    for name in wanted:
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        photo(mode={"h.pgm": "L", "i.pbm": "1"}.get(name, "RGB")).save(tmp_path / "x" / name)
    for name in ("notes.txt", "B/.hidden.png", ".git/a.png", "png"):
        (tmp_path / "x" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x" / name).write_text("no image")
    split = everything(tmp_path / "x", size=16)
    assert split.keys == sorted(wanted) == wanted
    assert split.skipped == []
    assert split.shape == (3, 16, 16)


def test_class_folders_give_labels(pictures: Path) -> None:
    split = everything(pictures)
    assert split.classes == ("cat", "dog")
    assert [split.classes[label] for label in present(split.labels)] == [key.split("/")[0] for key in split.keys]


def test_a_flat_folder_has_no_labels_and_one_class_has_one(pictures: Path) -> None:
    assert everything(pictures / "cat").labels is None
    assert everything(pictures / "cat").classes is None
    for path in (pictures / "dog").iterdir():
        path.unlink()
    assert everything(pictures).classes == ("cat",)
    assert present(everything(pictures).labels).tolist() == [0] * 5


def test_a_folder_of_junk_gives_what_is_good_and_lists_the_rest(
    tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    folder = tmp_path / "junk"
    folder.mkdir()
    for mode, name in (
        ("RGB", "a.png"),
        ("L", "b.jpg"),
        ("CMYK", "c.tif"),
        ("RGBA", "d.webp"),
        ("P", "e.gif"),
        ("1", "f.bmp"),
    ):
        photo(mode=mode, width=30 + ord(name[0]) % 7, seed=ord(name[0])).save(folder / name)
    frames = [photo(seed=seed) for seed in range(3)]
    frames[0].save(folder / "g-animated.gif", save_all=True, append_images=frames[1:])
    (folder / "n-empty.png").touch()
    (folder / "o-text.jpg").write_text("<html>404</html>")
    photo().save(folder / "p-cut.png")
    (folder / "p-cut.png").write_bytes((folder / "p-cut.png").read_bytes()[:-200])
    Image.new("1", (4000, 3000)).save(folder / "q-giant.png")
    (folder / "r-broken-link.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "s-pipe.png")
    (folder / "t-folder.png").mkdir()
    (folder / "u-linked.png").symlink_to(folder / "a.png")
    split = everything({"folder": {"path": str(folder), "megapixels": 10}}, size=(20, 24))
    assert split.keys == ["a.png", "b.jpg", "c.tif", "d.webp", "e.gif", "f.bmp", "g-animated.gif", "u-linked.png"]
    reasons = dict(split.skipped)
    assert list(reasons) == ["n-empty.png", "o-text.jpg", "p-cut.png", "q-giant.png", "r-broken-link.png", "s-pipe.png"]
    assert reasons["n-empty.png"] == reasons["o-text.jpg"] == "not an image in a format that Pillow supports"
    assert "truncated" in reasons["p-cut.png"]
    assert reasons["q-giant.png"] == "4000×3000 pixels are more than 10 megapixels"
    assert reasons["r-broken-link.png"] == "No such file or directory"
    assert "pipe" in reasons["s-pipe.png"]
    assert split.describe()["skipped"] == 6
    np.testing.assert_array_equal(split.images([0]), split.images([7]))


def test_links_are_followed_once_and_never_in_circles(
    pictures: Path, tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    (tmp_path / "far").mkdir()
    photo().save(tmp_path / "far" / "f.png")
    before = names(pictures)
    (pictures / "all").symlink_to(pictures)
    (pictures / "cat" / "up").symlink_to(pictures)
    (pictures / "again").symlink_to(pictures / "dog")
    (pictures / "self.png").symlink_to("self.png")
    (pictures / "far").symlink_to(tmp_path / "far")
    assert names(pictures) == sorted([*before, "far/f.png", "self.png"])


def test_a_folder_that_cannot_be_read_is_listed(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def guarded(path: Path) -> Any:
        if os.fspath(path).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    split = everything(pictures)
    assert split.skipped == [("cat", "folder cannot be read (Permission denied)")]
    assert {key.split("/")[0] for key in split.keys} == {"dog"}
    with pytest.raises(DataError, match="cat: cannot be read"):
        everything(pictures / "cat")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none" / "inner").mkdir(parents=True)
    (tmp_path / "none" / "a.txt").touch()
    with pytest.raises(DataError, match=r"none: contains no images \(.*\.png"):
        everything(tmp_path / "none")


def test_a_folder_of_unreadable_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").touch()
    with pytest.raises(DataError, match=r"folder bad: no readable image among 1 file.*a\.png"):
        everything(tmp_path / "bad", size=8)


def test_the_survey_reads_headers_and_respects_orientation(pictures: Path, photo: Callable[..., Image.Image]) -> None:
    assert Folder(DataDirs(), path=pictures).survey() == Survey((30, 40), 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("lying.jpg", "lying.tif", "lying.png", "lying.webp"):
        photo(30, 40).save(pictures / name, exif=exif)
    (pictures / "broken.png").write_text("no image")
    assert Folder(DataDirs(), path=pictures).survey() == Survey((30, 40), 3)
    photo(31, 40).save(pictures / "other.png")
    assert Folder(DataDirs(), path=pictures).survey() == Survey(None, 3)


def test_gray_folders_have_one_channel(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    (tmp_path / "gray").mkdir()
    for mode in ("L", "LA", "1"):
        photo(mode="L").convert(mode).save(tmp_path / "gray" / f"{mode}.png")
    assert everything(tmp_path / "gray").shape == (1, 30, 40)


def test_a_change_of_a_file_is_noticed(pictures: Path, photo: Callable[..., Image.Image]) -> None:
    first = everything(pictures)
    assert everything(pictures).content_hash == first.content_hash
    path = pictures / "cat" / "1.png"
    photo(seed=99).save(path)
    second = everything(pictures)
    assert second.content_hash != first.content_hash
    photo(seed=98).save(pictures / "cat" / "new.png")
    assert len(everything(pictures)) == 11
    (pictures / "cat" / "new.png").unlink()
    assert everything(pictures).content_hash == second.content_hash


def test_names_that_are_no_utf8_survive(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    name = os.fsdecode(b"caf\xe9\n.png")
    (tmp_path / "odd").mkdir()
    photo().save(tmp_path / "odd" / name)
    assert everything(tmp_path / "odd").keys == [name]


def test_the_same_folder_relative_and_under_home(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures.parent)
    monkeypatch.setenv("HOME", str(pictures.parent))
    expected = everything(pictures).content_hash
    for written in ("pictures", "./pictures", "~/pictures"):
        assert everything(written).content_hash == expected


def test_the_limit_is_one_that_pillow_can_keep(pictures: Path) -> None:
    with pytest.raises(ConfigError, match=r"folder\): megapixels"):
        everything({"folder": {"path": str(pictures), "megapixels": 500}})


def test_a_path_that_does_not_exist_is_named_with_a_similar_one_and_no_data_sets(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError) as caught:
        open_split(DataConfig(source=str(tmp_path / "photoz")), "all")
    assert str(tmp_path / "photoz") in str(caught.value)
    assert f"Did you mean '{tmp_path / 'photos'}'" in str(caught.value)
    assert "mnist" not in str(caught.value)
    with pytest.raises(DataError, match="data set 'mnits': did you mean 'mnist'"):
        open_split(DataConfig(source="mnits"), "all")
