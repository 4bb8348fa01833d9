"""Types and values in words, for people who write YAML."""

from __future__ import annotations

import collections.abc
import enum
import inspect
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from convae.core.arguments import Named

_PLAIN = {
    bool: "`true` or `false`",
    int: "integer",
    float: "number",
    str: "string",
    Path: "path",
    Any: "anything",
    dict: "mapping",
    list: "list",
    type(None): "`null`",
}
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_ENDLESS = 2**31 - 1
"""The bound of every count, which says no more than that it is a count."""


def type_in_words(annotation: Any) -> str:
    """What a value of an annotated type looks like in YAML: `integer > 0`, `` `adam` or `adamw` ``."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return " ".join([type_in_words(inner[0]), *_limits(inner[1:])])
    if origin is Literal:
        return " or ".join(value_in_words(value) for value in inner)
    if origin in (Union, types.UnionType):
        return _union(inner)
    if origin in (list, tuple, set, collections.abc.Sequence):
        items = [item for item in inner if item is not Ellipsis]
        same = list(dict.fromkeys(type_in_words(item) for item in items))
        if origin is tuple and Ellipsis not in inner:
            return f"list of {len(items)}: {', '.join(same)}"
        return f"list of: {', '.join(same)}"
    if origin in (dict, collections.abc.Mapping):
        return "mapping"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "mapping, see there"
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{choice.value}`" for choice in annotation)
    return _PLAIN.get(annotation) or f"`{getattr(annotation, '__name__', annotation)}`"


def _union(members: tuple[Any, ...]) -> str:
    """The members, `Named`'s two as one, and none as the last."""
    both = typing.get_args(Named)
    others = [member for member in members if member is not type(None)]
    if set(both) <= set(members):
        others = [member for member in others if member not in both]
    words = list(dict.fromkeys(type_in_words(member) for member in others))
    if len(words) == 2 and words[1] == f"list of: {words[0]}":
        words[1] = "a list of them"
    if set(both) <= set(members):
        words.append("name, or name with arguments")
    return " or ".join(words) + (", or `null`" if type(None) in members else "")


def _limits(metadata: tuple[Any, ...]) -> list[str]:
    """Bounds that say something."""
    flat = [part for given in metadata for part in (given.metadata if isinstance(given, FieldInfo) else [given])]
    bounds = [(sign, getattr(part, name)) for part in flat for name, sign in _BOUNDS.items() if hasattr(part, name)]
    words = [f"{sign} {bound:g}" for sign, bound in bounds if bound != _ENDLESS]
    return [", ".join(words)] if words else []


def value_in_words(value: Any) -> str:
    """A default as it is written in YAML."""
    if isinstance(value, BaseModel):
        return "see there"
    return f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, enum.Enum):
        return str(value.value)
    return str(value) if str(value) else "''"
