"""Configuration becomes keyword arguments: checked against the signature that will take them.

The keyword-only parameters of a class or function are its configuration. Their annotations, defaults and
pydantic constraints are written once, there; this module reads them, so that a mapping from YAML, JSON or the
command line is validated with the same care as any other configuration.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, create_model

from convae.core.config import Config, parse
from convae.core.errors import ConfigError
from convae.core.names import short_repr
from convae.core.paths import with_absolute_paths

_LARGEST = 2**31 - 1
"""No count, size or step of ours is larger, and the product of two is still a number for the library."""
Positive = Annotated[int, Field(gt=0, le=_LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=_LARGEST)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def shape_written_as(wanted: str) -> BeforeValidator:
    """Refuses what is no list of two to four entries with a sentence that says what is wanted."""

    def check(value: Any) -> Any:
        if isinstance(value, list | tuple) and 2 <= len(value) <= 4:
            return value
        raise ValueError(f"needs {wanted}")

    return BeforeValidator(check)


ImageShape = Annotated[tuple[Positive, ...], shape_written_as("channels and one to three sizes, such as [1, 28, 28]")]
"""Channels, then the sizes of one, two or three spatial axes."""
Fraction = Annotated[float, Field(ge=0, le=1)]
PerAxis = Positive | tuple[Positive, ...]
"""One number for all spatial axes, or one for each."""
Named = str | dict[str, dict[str, Any] | None]
"""A registry entry as a person writes it: `gaussian`, or `{gaussian: {sigma: 0.1}}`."""


class _Arguments(Config):
    """What models of arguments have in common: no source in which pydantic could look for sentences on fields."""

    model_config = ConfigDict(use_attribute_docstrings=False)


def keyword_parameters(target: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """The annotation and the default of each keyword-only parameter; the default is `...` where there is none."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        name: (hints.get(name, Any), ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


@cache
def _model(target: Callable[..., Any], beside: tuple[str, ...] = ()) -> type[Config]:
    """A pydantic model with a field for each keyword-only parameter of `target`, and for each name beside them."""
    fields: dict[str, Any] = {}
    for name, (annotation, default) in keyword_parameters(target).items():
        # Aliased, so that a parameter may carry a name that pydantic keeps for itself.
        fields[f"field_{name}"] = (
            annotation,
            Field(... if default is inspect.Parameter.empty else default, alias=name),
        )
    fields |= {f"beside_{name}": (Any, Field(None, alias=name)) for name in beside}
    return create_model(getattr(target, "__name__", "arguments"), __base__=_Arguments, **fields)


def parse_arguments(
    target: Callable[..., Any], given: Mapping[str, Any] | None, where: str, *, beside: tuple[str, ...] = ()
) -> dict[str, Any]:
    """All keyword arguments for `target`: those given, validated and converted, and the defaults of the others.

    Paths are made absolute; a relative one is relative to the working directory.

    Args:
        target: a class or function whose keyword-only parameters are its configuration.
        given: what the user wrote.
        where: the place, for messages, such as `model.encoder[3] (conv)`.
        beside: names that the user may write there, too, for somebody else.

    Raises:
        ConfigError: unknown, missing or wrong arguments, all listed, each with its path.
    """
    parsed = parse(_model(target, beside), with_absolute_paths(target, given or {}), where)
    names = (name for name in type(parsed).model_fields if name.startswith("field_"))
    return {name.removeprefix("field_"): getattr(parsed, name) for name in names}


def drop_defaults(target: Callable[..., Any], full: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from the defaults of `target`: the shortest way to write the same thing."""
    fields = _model(target).model_fields
    return {name: value for name, value in full.items() if value != fields[f"field_{name}"].default}


def split_name(value: Named, where: str) -> tuple[str, dict[str, Any]]:
    """Splits `gaussian` or `{gaussian: {sigma: 0.1}}` into the name and its arguments.

    Raises:
        ConfigError: the value is not a name or a mapping with exactly one key.
    """
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and len(value) == 1 and isinstance(next(iter(value.values())), Mapping | None):
        ((name, given),) = value.items()
        if isinstance(name, str) and all(isinstance(key, str) for key in given or {}):
            return name, dict(given or {})
    raise ConfigError(f"{where}: needs a name or a mapping of one name to its arguments, got {short_repr(value)}")
