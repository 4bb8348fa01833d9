from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convae.core.config import parse
from convae.core.errors import ConfigError
from convae.data import DataConfig


def test_a_folder_is_given_by_text_or_path() -> None:
    assert DataConfig(source=Path("photos")) == DataConfig(source="photos")


def test_a_number_as_size_is_a_square() -> None:
    assert parse(DataConfig, {"source": "mnist", "size": 32}, "recipe").size == (32, 32)
    assert parse(DataConfig, {"source": "mnist", "size": [128]}, "recipe").size == (128,)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"size": 0}, "size"),
        ({"size": True}, "size"),
        ({"channels": 0}, "channels"),
        ({"resize_mode": "stretch"}, "resize_mode"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"validation": 1.0}, "validation"),
        ({"test": -0.1}, "test"),
        ({"dirr": "x"}, "did you mean 'dir'"),
    ],
)
def test_faults_are_named_with_their_path(wrong: Any, path: str) -> None:
    with pytest.raises(ConfigError, match=path):
        parse(DataConfig, {"source": "mnist", **wrong}, "recipe")


def test_a_configuration_survives_the_way_through_json() -> None:
    config = DataConfig(source={"folder": {"path": "photos"}}, size=(8, 9), dir=Path("data"))
    assert parse(DataConfig, config.model_dump(mode="json"), "recipe") == config
