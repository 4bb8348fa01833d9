from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from narrow import present
from PIL import Image

from convae.core.errors import ArtifactError
from convae.data import DataConfig, open_data_set
from convae.data.splits.snapshot import Snapshot, describe_changes


def snapshot(folder: Path, **options: Any) -> Snapshot:
    return Snapshot.of(open_data_set(DataConfig(source=folder, **options)).split("all"))


@pytest.fixture
def many(pictures: Path, photo: Callable[..., Image.Image]) -> Path:
    for number in range(100, 130):
        photo(seed=number).save(pictures / "dog" / f"{number}.png")
    return pictures


def part_of(folder: Path, name: str) -> str:
    return next(
        part
        for part in ("train", "validation", "test")
        if name in open_data_set(DataConfig(source=folder)).split(part).keys  # not a mapping
    )


def test_nothing_changed_at_another_size_and_after_writing(many: Path, tmp_path: Path) -> None:
    before = snapshot(many)
    assert describe_changes(before, snapshot(many, size=8)) is None
    before.write(tmp_path / "data.npz")
    again = Snapshot.read(tmp_path / "data.npz")
    for name, values in vars(before).items():
        np.testing.assert_array_equal(getattr(again, name), values)
    assert Snapshot.read(tmp_path / "none.npz") is None
    for content in (b"PK\3\4 no archive", b"garbage"):
        (tmp_path / "data.npz").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"data\.npz: damaged") as caught:
            Snapshot.read(tmp_path / "data.npz")
        assert "allow_pickle" not in str(caught.value)


def test_what_changed_is_counted_part_by_part(many: Path, photo: Callable[..., Image.Image]) -> None:
    before = snapshot(many)
    (many / "cat" / "1.png").rename(many / "cat" / "other name.png")
    assert describe_changes(before, snapshot(many)) is None
    gone = part_of(many, "cat/3.png")
    (many / "cat" / "3.png").unlink()
    assert f"{gone} 1 removed" in present(describe_changes(before, snapshot(many)))
    photo(seed=500).save(many / "cat" / "3.png")
    assert "1 changed" in present(describe_changes(before, snapshot(many)))
    (many / "dog" / "100.png").rename(many / "cat" / "100.png")
    # Its name holds its class, so it is another image of the same content.
    photo(seed=501).save(many / "cat" / "new.png")
    assert f"{part_of(many, 'cat/new.png')}" in present(describe_changes(before, snapshot(many)))
    assert "1 added" in present(describe_changes(before, snapshot(many)))


def test_other_labels_are_counted_by_the_names_of_classes(many: Path) -> None:
    names = sorted(str(path.relative_to(many)) for path in many.rglob("*.png"))

    def table(labels: list[str]) -> Snapshot:
        (many / "list.csv").write_text(
            "path,kind\n" + "".join(f"{n},{k}\n" for n, k in zip(names, labels, strict=True))
        )
        return snapshot(many / "list.csv")

    before = table(["b", "c"] * (len(names) // 2))
    assert before.labels.any()
    # A class more changes the numbers of all others, and the label of one image.
    sentence = present(describe_changes(before, table(["a", "c", *["b", "c"] * (len(names) // 2 - 1)])))
    assert "1 relabeled" in sentence
    assert "added" not in sentence


def test_held_out_images_that_were_trained_on_are_counted(many: Path) -> None:
    before = snapshot(many)
    now = snapshot(many, split_seed=3, test=0.4)
    held = (now.parts == 2).sum()
    trained = {row.tobytes() for row in before.contents[before.parts == 0]}
    both = sum(row.tobytes() in trained for row in now.contents[now.parts == 2])
    assert both
    sentence = present(describe_changes(before, now))
    assert f"{both} of {held} test images" in sentence
    later = before.trained_also_on(now)
    assert len(later.trained) > len(before.trained)
    assert later.count_trained(open_data_set(DataConfig(source=many)).split("train")) == len(before.trained)


def test_a_rewritten_file_of_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    """The time of the last change can be set back, that of the last change of attributes cannot."""
    (tmp_path / "set").mkdir()
    paths = [tmp_path / "set" / f"{number}.pgm" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(b"P5 4 4 255\n" + bytes([number] * 16))
    before = snapshot(tmp_path / "set")
    time = paths[2].stat().st_mtime_ns
    paths[2].write_bytes(b"P5 4 4 255\n" + bytes([200] * 16))
    os.utime(paths[2], ns=(time, time))
    now = snapshot(tmp_path / "set")
    assert "1 changed" in present(describe_changes(before, now))
    array = tmp_path / "a.npy"
    np.save(array, np.zeros((5, 4, 4), np.uint8))
    before, time = snapshot(array), array.stat().st_mtime_ns
    np.save(array, np.arange(80, dtype=np.uint8).reshape(5, 4, 4))
    os.utime(array, ns=(time, time))
    assert "changed" in present(describe_changes(before, snapshot(array)))
