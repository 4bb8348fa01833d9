from __future__ import annotations

from typing import Any, Literal

import pytest

from convae.core.arguments import Fraction, PerAxis, Positive, drop_defaults, parse_arguments, split_name
from convae.core.errors import ConfigError


class Layer:
    """Something with a positional and some keyword-only parameters."""

    def __init__(
        self, shape: tuple[int, ...], *, channels: Positive, kernel: PerAxis = 3, copy: Literal["a", "b"] = "a"
    ) -> None:
        self.shape = shape


def half(*, share: Fraction = 0.5) -> float:
    return share / 2


def test_keyword_only_parameters_are_the_configuration_with_their_defaults() -> None:
    assert parse_arguments(Layer, {"channels": 8}, "here") == {"channels": 8, "kernel": 3, "copy": "a"}
    assert parse_arguments(half, None, "here") == {"share": 0.5}


def test_lists_become_the_tuples_that_the_signature_names() -> None:
    assert parse_arguments(Layer, {"channels": 8, "kernel": [3, 5]}, "here")["kernel"] == (3, 5)


def test_only_what_differs_from_the_defaults_is_worth_writing() -> None:
    full = parse_arguments(Layer, {"channels": 8, "kernel": 3, "copy": "b"}, "here")
    assert drop_defaults(Layer, full) == {"channels": 8, "copy": "b"}


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({}, ["here: ", "'channels' is missing"]),
        ({"channels": 0}, ["here: channels", "greater than 0", "got 0"]),
        ({"channels": 8, "kernle": 3}, ["unknown key 'kernle'", "did you mean 'kernel'"]),
        ({"channels": 8, "shape": 3}, ["unknown key 'shape'"]),
        ({"channels": "x", "copy": "c"}, ["channels", "copy", "'a' or 'b'"]),
    ],
)
def test_faults_are_all_named_with_the_place(given: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(Layer, given, "here")
    for part in parts:
        assert part in str(caught.value)
    assert "field_" not in str(caught.value)


def test_named_splits_a_name_from_its_arguments() -> None:
    assert split_name("gaussian", "likelihood") == ("gaussian", {})
    assert split_name({"gaussian": {"sigma": 0.1}}, "likelihood") == ("gaussian", {"sigma": 0.1})
    assert split_name({"gaussian": None}, "likelihood") == ("gaussian", {})


@pytest.mark.parametrize("wrong", [{}, {"a": {}, "b": {}}])
def test_named_refuses_what_is_no_single_name(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="likelihood: "):
        split_name(wrong, "likelihood")
