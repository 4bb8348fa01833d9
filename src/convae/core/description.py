"""The description of a model: input, encoder, bottleneck, decoder and likelihood.

Layers are written in one of several notations (`convae.notations`). All are read into plain lists of `LayerSpec`, from
which networks are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, field_validator
from pydantic_core import CoreSchema, core_schema

from convae.core.arguments import ImageShape, Named, keyword_parameters
from convae.core.config import Config
from convae.core.errors import ConfigError
from convae.core.names import flow_repr, one_line, short_repr
from convae.core.registry import canonical_name

MAX_PARAMETERS = 2_000_000_000
"""Default limit of the number of parameters; a description may raise it."""
MAX_LAYERS = 10_000
"""Limit of the number of layers in a list."""
MAX_DEPTH = 40
"""Depth limit of nested mappings and lists."""
LayerKind = Literal["resizing", "size-keeping", "parameter-free", "vector", "latent"]
"""Kind of a layer in drawings: with parameters, changing or keeping sizes; parameter-free; vector output; latent."""
MostParameters = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class LayerSpec:
    """One layer of a list: name, arguments, and location for messages.

    Two are equal if they describe the same layer, regardless of location and notation.

    Attributes:
        name: registered name.
        arguments: not yet validated.
        place: its index in the list as written, from 0: `[3]`, or `[3][1]` for the second layer of a written-out
            repeat; empty if the layer comes from no list.
        as_written: the text of the layer in another notation, such as a layer code.
        channels: expected input channels; None for any.
        axes: expected number of spatial axes; None for any.
    """

    name: str
    arguments: Mapping[str, Any]
    place: str = field(default="", compare=False)
    as_written: str | None = field(default=None, compare=False)
    channels: int | None = field(default=None, compare=False)
    axes: int | None = field(default=None, compare=False)

    def location(self, side: str) -> str:
        """Where the layer is written, for messages: `model.encoder[3] (conv)` in the list `model.encoder`."""
        return f"{side}{self.place} ({self.as_written or self.name})"

    def __str__(self) -> str:
        return self.as_written or describe_layer(self.name, self.arguments)

    def to_mapping(self) -> dict[str, dict[str, Any]]:
        """The stored form: a mapping of the name to the arguments, inner lists in the same form."""
        return {self.name: to_plain(self.arguments)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        to_mapping = core_schema.plain_serializer_function_ser_schema(cls.to_mapping)
        return core_schema.is_instance_schema(cls, serialization=to_mapping)


def describe_layer(name: str, arguments: Mapping[str, Any]) -> str:
    """A layer on one line: `conv {channels: 8}`."""
    given = ", ".join(f"{key}: {flow_repr(to_plain(value))}" for key, value in arguments.items())
    return f"{name} {{{given}}}" if given else name


def to_plain(value: Any) -> Any:
    """A value with layers as mappings and tuples as lists, as JSON and YAML hold it."""
    if isinstance(value, LayerSpec):
        return value.to_mapping()
    if isinstance(value, Mapping):
        return {key: to_plain(inner) for key, inner in value.items()}
    return [to_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_layer(written: Any, side: str, place: str) -> LayerSpec:
    """Reads one item of a list of layers: a name, or a mapping of a name to its arguments.

    Args:
        written: the item.
        side: path of the list, such as `model.encoder`, for messages.
        place: index in the list, such as `[3]`.

    Raises:
        ConfigError: it is neither.
    """
    where = f"{side}{place}"
    if isinstance(written, LayerSpec):
        return written
    if isinstance(written, str):
        return LayerSpec(canonical_name(written), {}, place)
    if isinstance(written, Mapping) and len(written) > 1 and any(given is None for given in written.values()):
        # If `conv:` and its arguments have the same indentation, YAML reads one mapping in which `conv` is null.
        raise ConfigError(
            f"{where}: expected one layer, got {one_line(flow_repr(written))}. "
            "Indent the arguments under the layer's name"
        )
    if not isinstance(written, Mapping) or len(written) != 1:
        raise ConfigError(
            f"{where}: expected a layer name or a mapping of one name to its arguments, got {short_repr(written)}"
        )
    ((name, given),) = written.items()
    if not isinstance(name, str) or not isinstance(given, Mapping | None) or not _has_text_keys(given or {}):
        raise ConfigError(f"{where}: expected a mapping of arguments under {name}, got {short_repr(given)}")
    return LayerSpec(canonical_name(name), dict(given or {}), place)


def read_plain_list(layers: Any, side: str) -> list[LayerSpec]:
    """Reads a plain list of layers: names, mappings of one name to its arguments, and `LayerSpec`s.

    Raises:
        ConfigError: not a list, or an item is not a layer.
    """
    require_list(layers, side)
    return [read_layer(written, side, f"[{index}]") for index, written in enumerate(layers)]


def require_list(layers: Any, side: str) -> None:
    """Checks that a value is a list.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise ConfigError(f"{side}: expected a list of layers, got {short_repr(layers)}")


def check_limits(layers: Any, side: str, count_repeats: Callable[[Any], int] = lambda _: 1) -> None:
    """Checks the length and depth of a list, including nested lists.

    Args:
        layers: the list as written.
        side: its path for messages.
        count_repeats: number of repetitions of an item, in notations with repeats.

    Raises:
        ConfigError: it has more than `MAX_LAYERS` layers, or is nested more than `MAX_DEPTH` deep.
    """
    if _count_layers(layers, side, count_repeats, 0) > MAX_LAYERS:
        raise ConfigError(f"{side}: more than {MAX_LAYERS} layers, including inner lists and repeats")


def _count_layers(value: Any, side: str, count_repeats: Callable[[Any], int], depth: int) -> int:
    """Number of layers in a value, at least 1; counting stops soon after the limit."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{side}: lists nested more than {MAX_DEPTH} deep")
    if isinstance(value, LayerSpec):
        value = value.arguments
    times = count_repeats(value)
    inner: Sequence[Any] = ()
    if isinstance(value, Mapping):
        # Strings and numbers in a mapping are arguments; in a list they may be layers.
        inner = [each for each in value.values() if isinstance(each, (Mapping, LayerSpec, list, tuple))]
    elif isinstance(value, list | tuple):
        inner = value
    total = 0
    for each in inner:
        total += _count_layers(each, side, count_repeats, depth + 1)
        if total > MAX_LAYERS:
            break
    return max(1, total) * times


def _has_text_keys(given: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in given)


def _validate_layers(value: Any) -> Any:
    try:
        return read_plain_list(value, "list")
    except ConfigError as error:
        raise ValueError(str(error)) from error


LayerList = Annotated[list[Any], BeforeValidator(_validate_layers)]
"""Type of a layer argument that is a list of layers: names, mappings of a name to its arguments, or `LayerSpec`s.
Notations apply to it as to the lists of a model."""


@cache
def layer_list_arguments(target: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the keyword-only parameters of a layer that are lists of layers."""
    lists = (LayerList, LayerList | None)
    return tuple(name for name, (annotation, _) in keyword_parameters(target).items() if annotation in lists)


class Spec(Config):
    """The canonical description of a model.

    Attributes:
        name: name of the model.
        input: channels, then the sizes of one to three spatial axes.
        encoder: layers from the image to the features.
        bottleneck: features to latent; by default a Gaussian, half of the channels as mean and half as log-variance.
        decoder: layers from the latent to the parameters of the likelihood.
        likelihood: p(x | z).
        prior: p(z); None for the default prior of the bottleneck.
        classifier: layers from the latent to one logit per class; None without a classifier.
        max_parameters: limit of the number of parameters, checked before they are allocated.
        condition: arguments of the condition, such as `{classes: 10}`, which passes the label to encoder and decoder;
            None for an unconditional model.
    """

    name: Name = "vae"
    input: ImageShape
    encoder: list[LayerSpec]
    bottleneck: Named = Field({"gaussian": {"head": False}}, validate_default=True)
    decoder: list[LayerSpec]
    likelihood: Named = "bernoulli"
    prior: Named | None = None
    classifier: list[LayerSpec] | None = None
    max_parameters: MostParameters = MAX_PARAMETERS
    condition: dict[str, Any] | None = None

    @field_validator("encoder", "decoder", "classifier", mode="before")
    @classmethod
    def _read_layers(cls, value: Any, info: Any) -> Any:
        if value is None and info.field_name == "classifier":
            return None
        side = f"model.{info.field_name}"
        layers = read_plain_list(value, side)
        check_limits(layers, side)
        return layers
