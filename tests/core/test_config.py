from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from convae.core.config import Config, override, parse
from convae.core.documents import MAX_BYTES, parse_yaml, read_mapping
from convae.core.errors import ConfigError


class Stage(Config):
    epochs: int
    rate: float = 1e-3


class Recipe(Config):
    stages: list[Stage]
    seed: int = 0


def test_yaml_reads_numbers_that_plain_yaml_takes_for_text() -> None:
    assert parse_yaml("a: 1e-3\nb: -2E+4\nc: 1e", "text") == {"a": 1e-3, "b": -2e4, "c": "1e"}


def test_json_is_yaml() -> None:
    assert parse_yaml('{"a": [1, 2.5, null]}', "text") == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("text", "part"),
    [("a: 1\na: 2", "duplicate key 'a'"), ("a: [1", "line"), ("!!python/object:os.system {}", "not valid YAML")],
)
def test_wrong_yaml_is_named_with_its_place(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml") as caught:
        parse_yaml(text, "recipe.yaml")
    assert part in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_one_clear_fault(text: str) -> None:
    try:
        parse_yaml(text, "text")
    except ConfigError as error:
        assert str(error).startswith("text")
        assert "\n" not in str(error)


def test_a_json_file_is_not_said_to_be_wrong_yaml() -> None:
    with pytest.raises(ConfigError, match=r"model\.json line 1: not valid JSON \("):
        parse_yaml("[1, 2", "model.json")


def test_files_that_are_no_mappings_are_refused(tmp_path: Path) -> None:
    cases: dict[str, bytes] = {
        "list.yaml": b"- 1",
        "binary.yaml": b"\xff\xfe\x00",
        "huge.yaml": b" " * (MAX_BYTES + 1),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    for name, part in [*zip(cases, ["mapping", "UTF-8", "larger"], strict=True), ("none.yaml", "cannot be")]:
        with pytest.raises(ConfigError, match=name) as caught:
            read_mapping(tmp_path / name)
        assert part in str(caught.value)


def test_overrides_make_their_way_into_a_copy() -> None:
    data: dict[str, Any] = {"train": {"lr": 1.0}, "likelihood": "gaussian"}
    changed = override(data, ["train.lr=1e-4", "new.inner.key=[1, 2]", "likelihood.gaussian.sigma=0.1"])
    assert changed["train"] == {"lr": 1e-4}
    assert changed["new"] == {"inner": {"key": [1, 2]}}
    assert changed["likelihood"] == {"gaussian": {"sigma": 0.1}}
    assert data == {"train": {"lr": 1.0}, "likelihood": "gaussian"}


@pytest.mark.parametrize(
    ("assignment", "changed"),
    [
        ("objective.my_pkg.t:Term.weight=2", {"objective": {"kl": {"weight": 1}, "my_pkg.t:Term": {"weight": 2}}}),
        ("objective.t:Term=2", {"objective": {"kl": {"weight": 1}, "t:Term": 2}}),
        ("objective.kl.weight.my_pkg.s:Up.to=2", {"objective": {"kl": {"weight": {"my_pkg.s:Up": {"to": 2}}}}}),
        ("model.likelihood.a.b:Noise.sigma=2", {"model": {"likelihood": {"a.b:Noise": {"sigma": 2}}}}),
        (
            "model.prior.a.b:Mixture.count=3",
            {"model": {"likelihood": "a.b:Noise", "prior": {"a.b:Mixture": {"count": 3}}}},
        ),
    ],
)
def test_a_dotted_path_is_one_key(assignment: str, changed: dict[str, Any]) -> None:
    data: dict[str, Any] = {"objective": {"kl": {"weight": 1}}, "model": {"likelihood": "a.b:Noise"}}
    if "weight." in assignment:
        data["objective"]["kl"]["weight"] = None
    assert override(data, [assignment], ["objective", "model", "likelihood", "prior"]) == {**data, **changed}


@pytest.mark.parametrize(
    ("assignment", "path"),
    [
        ("objective.data.terms:Term.weight=2", ["objective", "data.terms:Term", "weight"]),
        ("stages.0.objective.data.terms:Term.weight=2", ["stages", 0, "objective", "data.terms:Term", "weight"]),
        ("encoder.0.data.layers:Own.weight=2", ["encoder", 0, "data.layers:Own", "weight"]),
        ("likelihood.data.a:Noise.weight=2", ["likelihood", "data.a:Noise", "weight"]),
        ("data.source.data.a:Own.weight=2", ["data", "source", "data.a:Own", "weight"]),
    ],
)
def test_a_package_may_be_called_like_a_key(assignment: str, path: list[Any]) -> None:
    data: dict[str, Any] = {"objective": {"kl": 1}, "stages": [{}], "encoder": [{}], "data": {"size": 8}}
    fields = ["objective", "data", "source", "stages", "likelihood", "encoder"]
    found: Any = override(data, [assignment], fields, {"objective", "encoder", "likelihood", "source"})
    for key in path:
        found = found[key]
    assert found == 2


def test_what_python_code_writes_becomes_what_a_file_holds() -> None:
    data = {"dir": Path("a/b"), "size": (64, np.int64(64)), "lr": np.float32(0.5), "stage": Stage(epochs=2)}
    plain = {"dir": "a/b", "size": [64, 64], "lr": 0.5, "stage": {"epochs": 2, "rate": 1e-3}}
    assert override(data, []) == plain
    wrongs: list[dict[Any, Any]] = [{"a": {1, 2}}, {"a": np.zeros(3)}, {"a": {("a", "b"): 1}}]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match=r"configuration.*mappings, lists"):
            override(wrong, [])


def test_overrides_reach_into_lists() -> None:
    stages = [{"epochs": 1}, {"epochs": 2, "freeze": ["encoder", "head"]}, None]
    data = {"stages": stages, "encoder": ["relu"]}
    changes = ["stages.0.epochs=5", "stages.1.freeze.1=decoder", "stages.2.epochs=3", "encoder.0.prelu={}"]
    with pytest.raises(ConfigError, match=r"encoder\.0 is 'relu', which has no keys"):
        override(data, changes)
    changed = override(data, changes[:-1])
    assert changed["stages"] == [{"epochs": 5}, {"epochs": 2, "freeze": ["encoder", "decoder"]}, {"epochs": 3}]
    assert stages[0] == {"epochs": 1}


@pytest.mark.parametrize("place", ["2", "-1", "first", "²"])
def test_a_place_that_a_list_has_not_is_named_with_those_that_it_has(place: str) -> None:
    for path in (f"stages.{place}", f"stages.{place}.epochs"):
        with pytest.raises(ConfigError, match=f"stages.*'{place}'.* 0 to 1"):
            override({"stages": [{}, {}]}, [f"{path}=5"])
    with pytest.raises(ConfigError, match=r"stages.*empty"):
        override({"stages": []}, ["stages.0.epochs=5"])


def test_null_removes_an_entry_of_a_set_and_is_a_value_elsewhere() -> None:
    data = {"objective": {"kl": 2, "reconstruction": 1}, "ema": 0.9}
    found = override(data, ["objective.kl=null", "ema=null"], sets={"objective"})
    assert found == {"objective": {"reconstruction": 1}, "ema": None}
    with pytest.raises(ConfigError, match=r"'objective\.lk=null': .*did you mean 'kl'"):
        override(data, ["objective.lk=null"], sets={"objective"})


@pytest.mark.parametrize("wrong", ["seed", "=3", "a..b=3", "seed.deep=3"])
def test_wrong_overrides_are_quoted(wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"'{wrong}'"):
        override({"seed": 1}, [wrong])


def test_every_fault_is_listed_with_its_path_and_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Recipe, {"stages": [{"epoch": 3, "rate": "fast"}], "sead": 1}, "recipe.yaml")
    text = str(caught.value)
    for part in (
        "recipe.yaml: ",
        "'stages.0.epochs' is missing",
        "unknown key 'stages.0.epoch': did you mean 'epochs'?",
        "stages.0.rate: ",
        "unknown key 'sead': did you mean 'seed'?",
    ):
        assert part in text


class Several(Config):
    size: Annotated[int, Field(gt=0)] | tuple[Annotated[int, Field(gt=0)], ...] | Literal["same"] = 1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("big", "size: must be an integer or a list or 'same', got 'big'"),
        (-1, "size: must be greater than 0, got -1"),
        ([3, 0], "size.1: must be greater than 0, got 0"),
        (True, "size: must be an integer or a list or 'same', got True"),
        ([3, True], "size.1: must be an integer, got True"),
    ],
)
def test_a_value_that_may_be_one_of_several_things_has_one_fault(value: object, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Several, {"size": value}, "file")
    assert str(caught.value) == f"file: {told}"


class Everything(Config):
    count: int = 1
    rate: float = 0.5
    on: bool | float = False
    text: Annotated[str, Field(min_length=1)] = "a"
    shape: Annotated[tuple[int, ...], Field(min_length=2, max_length=3)] = (1, 2)
    stages: list[Stage] | None = None
    folder: Path = Path()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"count": "x"}, "count: must be an integer, got 'x'"),
        ({"count": 8.5}, "count: must be an integer, got 8.5"),
        ({"count": [16]}, "count: must be an integer, got [16]"),
        ({"count": False}, "count: must be an integer, got False"),
        ({"rate": True}, "rate: must be a number, got True"),
        ({"rate": "fast"}, "rate: must be a number, got 'fast'"),
        ({"on": "x"}, "on: must be a boolean or a number, got 'x'"),
        ({"text": 5}, "text: must be a string, got 5"),
        ({"text": ""}, "text: must have at least 1 character, got ''"),
        ({"shape": 28}, "shape: must be a list, got 28"),
        ({"shape": [1]}, "shape: must have at least 2 items, got [1]"),
        ({"shape": [1, 2, 3, 4]}, "shape: must have at most 3 items, got [1, 2, 3, 4]"),
        ({"shape": [1, True]}, "shape.1: must be an integer, got True"),
        ({"rate": None}, "rate: must be a number, got None"),
        ({"stages": [3]}, "stages.0: must be a mapping, got 3"),
        ({"folder": 5}, "folder: must be a path, got 5"),
    ],
)
def test_a_fault_is_told_behind_its_path(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Everything, given, "file")
    assert str(caught.value) == f"file: {told}"


def test_whole_numbers_may_be_written_as_others_and_booleans_stay_what_they_are() -> None:
    parsed = parse(Everything, {"count": 1e4, "rate": 2, "on": True}, "file")
    assert (parsed.count, parsed.rate, parsed.on) == (10_000, 2.0, True)
    assert parsed.on is True
