"""The source of Hugging Face data sets, on a stand-in for the parts of `datasets` that it uses."""

from __future__ import annotations

import sys

import pytest

from convae.core.errors import ConfigError, DataError
from convae.data import DataConfig, open_split


def opened(split="all", **options):
    more = {key: options.pop(key) for key in ("label", "download") if key in options}
    return open_split(DataConfig(source={"hugging-face": {"path": "owner/pets", **options}}, **more), split)


def test_the_official_parts_the_classes_and_what_cannot_be_decoded(hub):
    split = opened()
    assert split.shape == (3, 30, 40)
    assert split.keys == [f"train/00000{row}" for row in (0, 3, 4, 5)] + [f"test/00000{row}" for row in range(3)]
    assert dict(split.skipped) == {
        "train/000001": "not an image in a format that Pillow knows",
        "train/000002": "there is no image in this row",
    }
    assert (split.classes, split.labels.tolist()) == (("cat", "dog"), [0, 1, 0, 1, 0, 1, 0])
    mood = opened(label="mood")
    assert (mood.classes, mood.labels.tolist()) == (("sad", "happy"), [-1, 1, 1, 1, -1, 1, 1])
    assert len(opened("test")) == 3
    assert hub[0] == (None, None, True)


def test_columns_can_be_named_and_wrong_names_are_told(hub):
    opened(image="picture", config="small", revision="v1")
    assert hub[-1][:2] == ("small", "v1")
    with pytest.raises(DataError, match="unknown column of images 'pictures': did you mean 'picture'"):
        opened(image="pictures")
    with pytest.raises(ConfigError, match="unknown column 'knd': did you mean 'kind'"):
        opened(label="knd")


def test_downloading_is_allowed_unless_forbidden(hub, monkeypatch):
    monkeypatch.delenv("CONVAE_OFFLINE")
    opened()
    opened(download=False)
    assert [only_local for *_, only_local in hub] == [False, True]


def test_what_cannot_be_reached_is_one_sentence(hub):
    with pytest.raises(DataError, match=r"hugging-face owner/none: cannot be loaded \(Couldn't reach") as caught:
        opened(path="owner/none")
    assert "\n" not in str(caught.value)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'convae\[hugging-face\]'"):
        opened()
