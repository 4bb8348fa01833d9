from __future__ import annotations

import pytest

from convae.core.names import count_text, flow_repr, nearest_name, shape_text, unknown_message


@pytest.mark.parametrize(
    ("written", "meant"), [("batchnorm", "batch-norm"), ("CONV", "conv"), ("lekay-relu", "leaky-relu"), ("zzzz", None)]
)
def test_nearest_finds_the_name_that_was_meant_or_none(written: str, meant: str | None) -> None:
    assert nearest_name(written, ["conv", "batch-norm", "leaky-relu"]) == meant


def test_unknown_suggests_one_name_or_lists_them_all() -> None:
    assert unknown_message("layer", "cnov", ["conv", "linear"]) == "unknown layer 'cnov': did you mean 'conv'?"
    assert unknown_message("class", "12", ["1", "2"]) == "unknown class '12': choose from 1, 2", (
        "no number is a slip for another"
    )
    assert unknown_message("layer", "zzzz", ["linear", "conv"]) == "unknown layer 'zzzz': choose from conv, linear"


def test_shapes_are_written_as_people_write_them() -> None:
    assert shape_text((3, 64, 48)) == "3×64×48"


def test_arguments_are_written_as_lists_of_layers_have_them() -> None:
    layers = [{"silu": {}}, "tanh", {"conv": {"channels": 8, "kernel": [1, 3], "padding": "same"}}]
    assert flow_repr(layers) == "[silu, tanh, {conv: {channels: 8, kernel: [1, 3], padding: same}}]"
    assert flow_repr("two words") == "'two words'"
    assert len(flow_repr([layers] * 1000)) < 1000


def test_one_is_singular() -> None:
    assert [count_text(count, "image") for count in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert [count_text(count, "class") for count in (1, 2)] == ["1 class", "2 classes"]
