"""Validation of configuration against the signature of the class or function that takes it.

The keyword-only parameters of a class or function are its configuration. Their annotations, defaults and pydantic
constraints are written once, in the signature; a mapping from YAML, JSON or the command line is validated against it.
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
"""Upper limit of counts, sizes and steps; the product of two still fits into 64 bits."""
Positive = Annotated[int, Field(gt=0, le=_LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=_LARGEST)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def shape_written_as(wanted: str) -> BeforeValidator:
    """A validator that requires a list of two to four items; `wanted` is the description in its message."""

    def check(value: Any) -> Any:
        if isinstance(value, list | tuple) and 2 <= len(value) <= 4:
            return value
        raise ValueError(f"must be {wanted}")

    return BeforeValidator(check)


ImageShape = Annotated[tuple[Positive, ...], shape_written_as("channels and one to three sizes, such as [1, 28, 28]")]
"""Channels, then the sizes of one, two or three spatial axes."""
Fraction = Annotated[float, Field(ge=0, le=1)]
PerAxis = Positive | tuple[Positive, ...]
"""One number for all spatial axes, or one per axis."""
Named = str | dict[str, dict[str, Any] | None]
"""A registered name with or without arguments: `gaussian` or `{gaussian: {sigma: 0.1}}`."""


class _Arguments(Config):
    """Base of the argument models; they have no source code in which pydantic could look for field docstrings."""

    model_config = ConfigDict(use_attribute_docstrings=False, arbitrary_types_allowed=True)


@cache
def keyword_parameters(target: Callable[..., Any]) -> Mapping[str, tuple[Any, Any]]:
    """Annotation and default of each keyword-only parameter; the default is `...` for a required one."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        name: (hints.get(name, Any), ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


@cache
def _model(target: Callable[..., Any], beside: tuple[str, ...] = ()) -> type[Config]:
    """A pydantic model with one field per keyword-only parameter of `target` and per name in `beside`."""
    fields: dict[str, Any] = {}
    for name, (annotation, default) in keyword_parameters(target).items():
        # Aliases allow parameters whose names pydantic reserves.
        fields[f"field_{name}"] = (
            annotation,
            Field(... if default is inspect.Parameter.empty else default, alias=name),
        )
    fields |= {f"beside_{name}": (Any, Field(None, alias=name)) for name in beside}
    return create_model(getattr(target, "__name__", "arguments"), __base__=_Arguments, **fields)


def parse_arguments(
    target: Callable[..., Any], given: Mapping[str, Any] | None, where: str, *, beside: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Validates and converts the given arguments of `target`, and adds the defaults of the others.

    Paths become absolute, relative to the working directory. A target may have a class method `expand_arguments`,
    which turns a short form of its arguments into the long one.

    Args:
        target: a class or function whose keyword-only parameters are its configuration.
        given: what the user wrote.
        where: location in the configuration for messages, such as `model.encoder[3] (conv)`.
        beside: further allowed names that the caller reads itself.

    Raises:
        ConfigError: unknown, missing or invalid arguments; the message lists all of them with their paths.
    """
    given = given or {}
    if (expand := getattr(target, "expand_arguments", None)) is not None:
        given = expand(given)
    parsed = parse(_model(target, beside), with_absolute_paths(target, given), where)
    names = (name for name in type(parsed).model_fields if name.startswith("field_"))
    return {name.removeprefix("field_"): getattr(parsed, name) for name in names}


def drop_defaults(target: Callable[..., Any], full: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from the defaults of `target`."""
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
    raise ConfigError(f"{where}: must be a name or a mapping of one name to its arguments, got {short_repr(value)}")
