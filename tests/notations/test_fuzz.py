"""Mutated descriptions build and come back the same, or are refused by a sentence; nothing else ever happens.

`CONVAE_FUZZ=2900 pytest tests/model/notations/test_fuzz.py` tries 20,300 of them.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convae.core.documents import parse_yaml
from convae.core.errors import ConfigError, ConvaeError
from convae.describe import resolve, write
from convae.model.construct import construct
from convae.model.layers import LAYERS
from convae.notations import read_python

COUNT = int(os.environ.get("CONVAE_FUZZ", "40"))
BUDGET = 50_000_000

OWN: dict[str, Any] = {
    "input": [3, 16, 12],
    "encoder": [
        {"conv": {"channels": 8, "kernel": [3, 3], "stride": 2, "padding": "same"}},
        "batch-norm",
        {"repeat": {"times": 2, "layers": [{"residual": {"layers": ["relu", {"conv": {"channels": 8}}]}}, "silu"]}},
        {"attention": {"heads": 2, "norm": {"group-norm": {"groups": 4}}}},
        {"residual-block": {"channels": 16, "stride": [2, 1], "norm": "instance-norm", "activation": "gelu"}},
        "flatten",
    ],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 576}}, {"unflatten": {"to": [3, 16, 12]}}, {"dropout": {"rate": 0.1}}],
    "likelihood": {"gaussian": {"sigma": 0.2, "link": "tanh"}},
}
CODES: dict[str, Any] = {
    "input": [3, 32, 32],
    "encoder": ["C2d_3_32_3_1_1", "2*VAERB_32_32", "C2d_32_32_3_4_0", "VAEA_32", "GN_32_32", "SiLU", "C2d_32_8_3_1_1"],
    "decoder": ["C2d_4_32_1_1_0", "3*VAERB_32_32", "UpS_4", "CT2d_32_32_3_1_1", "MaxP_1", "C2d_32_3_3_1_1"],
}
ARCH: dict[str, Any] = {
    "input": [17, 24, 3],
    "latent": 5,
    "encode": [[8, 3, [2, 2]], [16, 3, 2], [16, 5, [1, 3]]],
    "decode": None,
    "name": "faces",
}
PRESET: dict[str, Any] = {"preset": "torch-vae", "input": [1, 20, 20], "latent": 4, "max_filters": 8}
SEEDS = [OWN, CODES, ARCH, PRESET]
READERS: dict[str, Callable[[str, str], Any]] = {"yaml": parse_yaml, "codes": parse_yaml, "arch-def": read_python}

LETTERS = "0129-.,:[]{}()\"'_*#\n\t é\0"
WORDS = [*LAYERS.names(), "cnov", "C2d_3_8_3", "2*SiLU", "VAERB_8_16", "", "repeat", "same", "learned", "none.json"]
VALUES: list[Callable[[random.Random], Any]] = [
    lambda r: r.randint(-2, 40),
    lambda r: r.choice([0, -1, 2**31, 2**63, 10**30, 0.5, -1e30, float("nan"), float("inf")]),
    lambda r: r.choice(WORDS),
    lambda r: [r.randint(0, 5) for _ in range(r.randint(0, 4))],
    lambda r: {r.choice(WORDS): {"channels": r.randint(0, 64), "kernel": r.randint(0, 9)}},
    lambda r: {r.choice(WORDS): r.choice([None, 3, [], {}])},
    lambda r: r.choice([None, True, False, [], {}, [[]], {1: 2}]),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a description."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def mutate(value: Any, r: random.Random) -> Any:
    """A copy with one thing changed, dropped, doubled, renamed or bent."""
    value = copy.deepcopy(value)
    found = [place for place in places(value) if place]
    if not found:
        return r.choice(VALUES)(r)
    *way, last = r.choice(found)
    at = value
    for key in way:
        at = at[key]
    kind = r.randrange(5)
    if kind == 0:
        at[last] = r.choice(VALUES)(r)
    elif kind == 1:
        del at[last]
    elif kind == 2 and isinstance(at, list):
        at.insert(last, copy.deepcopy(r.choice(at)))
    elif kind == 2:
        at[r.choice(["chanels", "kernel", "stride", "layers", "times", "latent", "to"])] = at[last]
    elif isinstance(at[last], str) and at[last]:
        text, spot = at[last], r.randrange(len(at[last]))
        at[last] = text[:spot] + r.choice(["", "_", "9", "x", "*", "é", "-"]) + text[spot + r.randint(0, 1) :]
    elif isinstance(at[last], int | float) and not isinstance(at[last], bool):
        at[last] = r.choice([at[last] + 1, at[last] * 2, -at[last], at[last] // 2, float(at[last])])
    else:
        at[last] = r.choice(VALUES)(r)
    return value


def check(spec: Any) -> bool:
    """Whether the description builds; if so, all notations that can write it write the same model."""
    try:
        model = construct(resolve(spec).model_copy(update={"max_parameters": BUDGET}))
    except ConvaeError as error:
        text = str(error)
        assert 0 < len(text) < 3000
        assert "\n" not in text
        return False
    stored = model.spec
    as_json = json.loads(json.dumps(stored.model_dump(mode="json")))
    assert construct(resolve(as_json)).spec == stored
    for notation, read in READERS.items():
        try:
            text = write(stored, notation)
        except ConfigError:
            continue
        assert construct(resolve(read(text, notation))).spec == stored
    return True


def test_the_seeds_themselves_build() -> None:
    assert all(check(seed) for seed in SEEDS)


@settings(max_examples=COUNT, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
@pytest.mark.parametrize("seed", SEEDS, ids=["own", "codes", "arch-def", "preset"])
def test_a_mutated_description_builds_or_is_refused(seed: Any, number: int) -> None:
    r = random.Random(number)
    spec = seed
    for _ in range(r.randint(1, 4)):
        spec = mutate(spec, r)
    if isinstance(spec, dict | str):
        check(spec)


@settings(max_examples=COUNT, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
@pytest.mark.parametrize(("notation", "seed"), list(zip(READERS, SEEDS, strict=False)), ids=list(READERS))
def test_a_file_with_changed_letters_builds_or_is_refused(notation: str, seed: Any, number: int) -> None:
    r = random.Random(number)
    text = write(resolve(seed), notation)
    for _ in range(r.randint(1, 4)):
        spot = r.randrange(len(text))
        text = text[:spot] + r.choice(["", *LETTERS]) + text[spot + r.randint(0, 2) :]
    try:
        spec = READERS[notation](text, "a file")
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    if isinstance(spec, dict):
        check(spec)


@settings(max_examples=COUNT)
@given(st.text("0123456789*_CdTVAERBSiLUGNMaxP -é", max_size=16))
def test_any_text_in_a_list_is_a_layer_or_is_refused(text: str) -> None:
    check({**CODES, "encoder": ["C2d_3_32_3_1_1", text]})
