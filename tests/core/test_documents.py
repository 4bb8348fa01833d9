"""Configuration files of strangers: read as people mean them, or refused at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convae.core.documents import MAX_DEPTH, MAX_VALUES, parse_yaml, read_mapping, read_value
from convae.core.errors import ConfigError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=JSON_VALUES, indent=st.sampled_from([None, 2, "\t"]), ascii_only=st.booleans())
def test_json_is_read_as_json(value: Any, indent: int | str | None, ascii_only: bool) -> None:
    assert parse_yaml(json.dumps(value, indent=indent, ensure_ascii=ascii_only), "a.json") == value


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "{a: 1}", "[1,]", "[" * 100_000, '"\\ud83d"', ""])
def test_what_is_no_json_is_refused_under_its_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^a\.json"):
        parse_yaml(text, "a.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("10_000", 10000),
        ("1:30", "1:30"),
        ("1e-3", 1e-3),
        ("5e3", 5000.0),
        ("-.5", -0.5),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        ("=", "="),
        ('"\\ud83d\\ude00"', "😀"),
        ('"caf\\udce9"', os.fsdecode(b"caf\xe9")),
    ],
)
def test_numbers_and_words_are_read_as_people_mean_them(text: str, value: Any) -> None:
    found = parse_yaml(text, "x")
    assert (type(found), found) == (type(value), value)


def laughs(levels: int) -> str:
    first = "a0: &a0 [" + ",".join("x" * 10) + "]\n"
    return first + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, levels))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (laughs(10), f"{MAX_VALUES:,} values"),
        ("a: &a [*a]", "recursive alias"),
        ("a: &a {b: {c: *a}}", "recursive alias"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "too deeply"),
        ("[" * 300_000, "too deeply"),
        ("a: {" * 50_000, "too deeply"),
        ("b: 1\na: 2\nb: 3", "duplicate key 'b'"),
        ("{b:{c:1}}", "space after each colon"),
    ],
)
def test_structures_that_cost_more_than_they_hold_are_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_yaml(text, "x")


def test_aliases_within_bounds_are_written_out() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}", "x") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe.yaml", "zero.yaml", "folder.yaml", "missing.yaml", "nul\0.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_value(tmp_path / name)


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{\n\t"data": "digits"\n}')
    assert read_mapping(tmp_path / "a.json") == {"data": "digits"}
