"""Configuration: `key.path=value` overrides, and pydantic models that forbid unknown keys."""

from __future__ import annotations

import json
import numbers
import os
import re
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticKnownError
from pydantic_core.core_schema import no_info_before_validator_function

from convae.core.documents import parse_yaml
from convae.core.errors import ConfigError
from convae.core.names import nearest_name, short_repr, unknown_message


def _without_booleans(schema: Any) -> Any:
    """A schema whose numbers refuse booleans, which Python would accept as 0 and 1."""
    if isinstance(schema, list):
        return [_without_booleans(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _without_booleans(item) for key, item in schema.items()}
    kind = schema.get("type")
    if kind not in ("int", "float"):
        return schema

    def number(value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticKnownError("int_type" if kind == "int" else "float_type")
        return value

    return no_info_before_validator_function(number, schema)


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys forbidden, booleans not accepted as numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    other_names: ClassVar[Mapping[str, str]] = {}
    """Other names of keys, with the path of the key each stands for; for suggestions."""

    @classmethod
    def paths(cls) -> list[str]:
        """The paths of all keys, outer ones first; for suggestions from the last part alone."""
        outer = [field.alias or name for name, field in cls.model_fields.items()]
        inner = [
            f"{name}.{path}"
            for name, field in cls.model_fields.items()
            for model in _models_in(field.annotation)
            if issubclass(model, Config)
            for path in model.paths()
        ]
        return outer + inner

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = _without_booleans(handler(source))
        return schema


ConfigT = TypeVar("ConfigT", bound=Config)


def override(
    data: Mapping[str, Any],
    assignments: Iterable[str],
    fields: Collection[str] = (),
    named: Collection[str] = (),
    sets: Collection[str] = (),
) -> dict[str, Any]:
    """A copy of `data` with each `key.path=value` applied; values are parsed as YAML.

    A number in the path is an index into a list, from 0: `stages.0.epochs=5`. The dotted path of a class is one key:
    `objective.my_pkg.terms:Sharpness.weight=2`.

    Args:
        data: the configuration.
        assignments: `key.path=value` each.
        fields: valid keys, beyond those of `data`; a dotted path of a class does not begin with one, except …
        named: … below these keys, where the keys are names of classes, such as terms below `objective`.
        sets: keys of mappings with any number of entries, such as `objective`, from which null removes one.

    Raises:
        ConfigError: an assignment without `=`, with an empty key, with a path through a value without keys, or with an
            invalid list index; or `data` contains a value that a configuration file cannot hold.
    """
    try:
        result: dict[str, Any] = json.loads(json.dumps(data, default=_plain))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a configuration can contain mappings, lists, strings and numbers only: {error}") from error
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = _path_keys(path, result, fields, named)
        if not equals or not all(keys):
            raise ConfigError(f"'{assignment}': expected an override of the form key.path=value")
        place: Any = result
        for depth, key in enumerate(keys[:-1]):
            at = _place(place, key, f"'{assignment}': {'.'.join(keys[:depth])}")
            inner = place.setdefault(at, None) if isinstance(place, dict) else place[at]
            if inner is None:
                inner = place[at] = {}
            elif inner == keys[depth + 1]:
                # Setting an argument turns `likelihood: gaussian` into `likelihood: {gaussian: {…}}`.
                inner = place[at] = {inner: {}}
            if not isinstance(inner, dict | list):
                raise ConfigError(f"'{assignment}': {'.'.join(keys[: depth + 1])} is {inner!r}, which has no keys")
            place = inner
        at = _place(place, keys[-1], f"'{assignment}': {'.'.join(keys[:-1])}")
        value = parse_yaml(text, f"'{assignment}'")
        if value is None and len(keys) > 1 and keys[-2] in sets:
            if at not in place:
                raise ConfigError(f"'{assignment}': {unknown_message('key', str(at), list(place))}")
            del place[at]
        else:
            place[at] = value
    return result


def _path_keys(path: str, data: Any, fields: Collection[str], named: Collection[str]) -> list[str]:
    """Splits a path into keys; a dotted path such as `my_pkg.terms:Sharpness` stays one key."""
    keys: list[str] = []
    rest, place = path.split("."), data
    while rest:
        first = rest[0]
        below = next((key for key in reversed(keys) if not key.isdecimal()), None)
        is_field = first in fields and below not in named
        is_key = is_field or first.isdecimal() or (isinstance(place, Mapping) and first in place)
        end = next((at for at, part in enumerate(rest) if ":" in part), 0)
        if not is_key and end:
            rest[: end + 1] = [".".join(rest[: end + 1])]
        keys.append(rest.pop(0))
        if isinstance(place, list):
            place = place[int(first)] if first.isdecimal() and int(first) < len(place) else None
        else:
            place = place.get(keys[-1]) if isinstance(place, Mapping) else None
    return keys


def _plain(value: Any) -> Any:
    """Converts Python values, such as paths and NumPy numbers, to what a configuration file can hold."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"got a {type(value).__name__}")


def _place(value: dict[str, Any] | list[Any], key: str, where: str) -> Any:
    """A key for a mapping, or an index for a list."""
    if isinstance(value, dict):
        return key
    if not (key.isascii() and key.isdecimal() and int(key) < len(value)):
        valid = f"an index from 0 to {len(value) - 1}" if value else "no index, because it is empty"
        raise ConfigError(f"{where} is a list without index '{key}'. Use {valid}")
    return int(key)


def parse(model: type[ConfigT], data: Mapping[str, Any], source: str) -> ConfigT:
    """Validates `data` as an instance of `model`.

    Raises:
        ConfigError: lists every error with its path and, for an unknown key, the nearest valid one.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        places: dict[str, list[Any]] = {}
        for fault in error.errors(include_url=False):
            places.setdefault(_path(fault["loc"]), []).append(fault)
        # For a union, an error inside one alternative says more than that the value matches none of them.
        inner = {path: faults for path, faults in places.items() if not any(_inside(deep, path) for deep in places)}
        faults = [_fault(model, path, found) for path, found in inner.items()]
        raise ConfigError(f"{source}: {'; '.join(faults)}") from error


_WANTED = {
    "int": "an integer",
    "float": "a number",
    "string": "a string",
    "bool": "a boolean",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "path": "a path",
}
"""Names of the expected types by the prefix of pydantic's error type."""
_OTHER_KIND = ("_type", "_parsing", "_from_float")
_MUST_BE = "must be "
_ALTERNATIVE = re.compile(r"constrained-\w+|int|float|str|bool|none|.*\[.*", re.DOTALL)
"""Path components in which pydantic names an alternative of a union."""


def _path(location: tuple[int | str, ...]) -> str:
    """The path in the configuration, without the components that name alternatives of a union."""
    return ".".join(str(part) for part in location if isinstance(part, int) or not _ALTERNATIVE.fullmatch(part))


def _inside(path: str, outer: str) -> bool:
    return bool(outer) and path.startswith(f"{outer}.")


def _fault(model: type[Config], path: str, faults: list[Any]) -> str:
    """Message for the errors at one path: `path: must be …, got …`."""
    # A value of the right type out of its range comes before one of the wrong type.
    kinds = (*_OTHER_KIND, "literal_error")
    faults = [fault for fault in faults if not fault["type"].endswith(kinds)] or faults
    fault = faults[0]
    location = fault["loc"]
    if fault["type"] == "extra_forbidden":
        choices, key = _keys(model, location[:-1]), str(location[-1]).replace("-", "_")
        elsewhere = {each.rpartition(".")[2]: each for each in reversed(model.paths())} | dict(model.other_names)
        match = elsewhere.get(key) or nearest_name(key, choices) or elsewhere.get(nearest_name(key, elsewhere) or "")
        if match and isinstance(given := fault.get("input"), Mapping) and len(given) == 1 and match not in choices:
            match = f"{match}.{next(iter(given))}"
        hint = f"did you mean '{match}'?" if match else f"choose from {', '.join(choices) or 'nothing'}"
        return f"unknown key '{path}': {hint}"
    if fault["type"] == "missing":
        return f"'{path}' is missing"
    first, *others = messages = dict.fromkeys(map(_message, faults))
    if others and all(message.startswith(_MUST_BE) for message in messages):
        # The alternatives of a union.
        first = _MUST_BE + " or ".join(message.removeprefix(_MUST_BE) for message in messages)
    given = fault.get("input")
    got = f", got {short_repr(given)}" if isinstance(given, str | int | float | list | tuple | None) else ""
    return f"{path}: {first}{got}" if path else first


def _message(fault: Any) -> str:
    """Pydantic's message in a form that can follow the path of the value."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        bound = context["min_length"] if least else context["max_length"]
        return f"must have at {'least' if least else 'most'} {bound} item{'s' * (bound != 1)}"
    wanted = _WANTED.get(kind.partition("_")[0])
    if wanted and kind.endswith(_OTHER_KIND):
        return f"{_MUST_BE}{wanted}"
    message = str(fault["msg"]).removeprefix("Value error, ").removesuffix(".")
    message = re.sub(r"^(?:\w+ )?should ", "must ", message)
    return message[:1].lower() + message[1:]


def _keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The valid keys of the model at `location`."""
    at: Any = model
    for part in location:
        field = at.model_fields.get(part) if _is_model(at) else None
        inner = _models_in(field.annotation) if field else []
        at = inner[0] if inner else at
    return [field.alias or name for name, field in at.model_fields.items()] if _is_model(at) else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models inside an annotation such as `list[Stage] | None`."""
    if _is_model(annotation):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in _models_in(inner)]


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
