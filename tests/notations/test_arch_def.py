"""Errors in an `arch_def` name the place and the value, whether it is a dictionary, YAML, JSON or Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convae.core.errors import ConfigError
from convae.describe import resolve

GOOD: dict[str, Any] = {"input": (8, 8, 1), "latent": 2, "encode": [(4, 3, (2, 2)), (8, 3, 2)], "decode": None}
CONV = "(channels, kernel, strides)"
ROW = "list of (channels, kernel, strides)"


@pytest.mark.parametrize(
    ("changed", "facts"),
    [
        ({"encode": [(8, 3), (16, 3)]}, ["model.encode[0] (8, 3): ", CONV, "got 2 values"]),
        ({"encode": [(8, 3, (2, 2), "relu")]}, ["model.encode[0] (8, 3, (2, 2), 'relu'): ", CONV, "got 4 values"]),
        ({"encode": [8, 16]}, ["model.encode[0]: ", CONV, "got 8"]),
        ({"encode": ["8,3,2"]}, ["model.encode[0]: ", CONV, "got '8,3,2'"]),
        ({"encode": []}, ["model.encode: ", ROW, "got []"]),
        ({"encode": None}, ["model.encode: ", ROW, "got None"]),
        ({"encode": [(8, 3, (0, 2))]}, ["model.encode[0] (8, 3, (0, 2)): strides.0: ", "greater than 0"]),
        ({"encode": [(8, 3, 2), (8, 0, 2)]}, ["model.encode[1] (8, 0, 2): kernel: ", "greater than 0"]),
        ({"encode": [((2, 2), 3, 8)]}, ["model.encode[0] ((2, 2), 3, 8): channels: ", "got (2, 2)"]),
        ({"encode": [(8, 3, True)]}, ["model.encode[0] (8, 3, True): strides: ", "got True"]),
        ({"encode": [(8, 3, (2,))]}, ["model.encode[0] (8, 3, (2,)): ", "one stride or 2", "got 1"]),
        ({"decode": "None"}, ["model.decode: ", ROW, "None (null in YAML and JSON)", "got 'None'"]),
        ({"decode": []}, ["model.decode: ", ROW, "None (null in YAML and JSON)", "got []"]),
        ({"decode": [(8, 3)]}, ["model.decode[0] (8, 3): ", CONV, "got 2 values"]),
        ({"input": 64}, ["model: input: ", "such as (28, 28, 1)", "got 64"]),
        ({"input": (64,)}, ["model: input: ", "such as (28, 28, 1)", "got (64,)"]),
        ({"input": (64, 0, 1)}, ["model: input.1: ", "greater than 0", "got 0"]),
        ({"name": ""}, ["model: name: ", "at least 1 character", "got ''"]),
    ],
)
def test_an_error_in_an_arch_def_names_its_place_and_value(changed: dict[str, Any], facts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({**GOOD, **changed})
    assert str(caught.value).startswith(facts[0])
    for fact in facts:
        assert fact in str(caught.value)


def test_an_arch_def_with_encoder_in_place_of_encode_is_still_taken_for_one() -> None:
    given = {"encoder" if key == "encode" else key: value for key, value in GOOD.items()}
    with pytest.raises(ConfigError, match="'encode' is missing; unknown key 'encoder': did you mean 'encode'"):
        resolve(given)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "input: [8, 8, 1]\nlatent: 2\nencode: [(8, 3, (2, 2))]"),
        ("a.yaml", "input: [8, 8, 1]\nlatent: 2\nencode:\n  - (8, 3, 2)"),
        ("a.yaml", "input: (8, 8, 1)\nlatent: 2\nencode: [[8, 3, 2]]"),
        ("a.json", '{"input": (8, 8, 1), "latent": 2, "encode": [(8, 3, (2, 2))]}'),
    ],
)
def test_round_brackets_in_a_file_without_them_are_told(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name}.*parentheses"):
        resolve(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "arch.py: expected arch_def = {…} or a single dictionary, found 0"),
        ("x = 1", "arch.py: expected arch_def = {…} or a single dictionary, found 0"),
        ("arch_def: dict", "arch.py: expected arch_def = {…} or a single dictionary, found 0"),
        ("a = {}\nb = {}", "arch.py: expected arch_def = {…} or a single dictionary, found 2"),
        ("\na = {", "arch.py line 2: not valid Python ('{' was never closed)"),
        ("arch_def = dict(\n  latent=4)", "arch.py line 1: arch_def must be a literal {…}, got dict( latent=4)"),
        ("a = {1: f()}", "arch.py line 1: f() is not a literal"),
        ("H = 3\na = {'input': (H, H, 3)}", "arch.py line 2: H is not a literal"),
        ("a = {\n  'encode': [(8, 3, 2)] * 3}", "arch.py line 2: [(8, 3, 2)] * 3 is not a literal"),
        ("a = {**b, 'latent': 3}", "arch.py line 1: b is not a literal"),
        ("a = {'input': {[]: 1}}", "arch.py line 1: {[]: 1} is not a literal"),
    ],
)
def test_python_without_one_plain_dictionary_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "arch.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path / "arch.py")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "arch_def: dict[str, Any] = {given}",
        "own_name = {given}",
        "arch_def = {given}\ntrain_cfg = {{'lr': 3}}",
        "train_cfg = {{'lr': f()}}\narch_def = {given}",
    ],
)
def test_the_dictionary_is_the_one_called_arch_def_or_the_only_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "arch.py").write_text(text.format(given=GOOD))
    assert resolve(tmp_path / "arch.py") == resolve(GOOD)
