"""An artifact has nothing read or downloaded by itself."""

from __future__ import annotations

from typing import Any

import pytest

from convae.core.errors import ConfigError
from convae.data.provenance import require_permission


@pytest.mark.parametrize(
    "source",
    [
        "/home/somebody/photos",
        "photos/",
        "no-such-set",
        {"folder": {"path": "/home/somebody"}},
        {"arrays": {"path": "x.npy"}},
        {"manifest": {"path": "x.csv"}},
        {"hugging-face": {"path": "somebody/images"}},
        "hugging-face",
        "evil\x1b[2J",
    ],
    ids=str,
)
def test_paths_and_downloads_need_a_word_of_the_person(source: Any) -> None:
    with pytest.raises(ConfigError, match="--data") as caught:
        require_permission({"source": source})
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("source", [None, 3, [], {}, {"a": 1, "b": 2}], ids=str)
def test_what_names_no_data_is_refused(source: Any) -> None:
    with pytest.raises(ConfigError):
        require_permission({"source": source})


@pytest.mark.parametrize("source", ["digits", "mnist", {"sprites": {}}], ids=str)
def test_known_data_sets_are_looked_for_and_not_downloaded(source: Any) -> None:
    found = require_permission({"source": source, "dir": "/home/somebody", "download": True, "test": 0.2})
    assert found == {"source": source, "dir": None, "download": False, "test": 0.2}


def test_images_of_a_program_are_passed_again() -> None:
    with pytest.raises(ConfigError, match="Session"):
        require_permission({"source": {"given": {"images": 3, "shape": [1, 8, 8], "sha256": "ab"}}})
