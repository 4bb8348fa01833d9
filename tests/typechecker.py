"""The type checker of the tests: beartype, for which an int may stand for a float, as it may for mypy.

jaxtyping binds the arguments of every call and checks them twice, so as to say more of a fault. Here a call is checked
once, and shapes are bound where there are some: the suite takes a third less.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import AbstractArray

# In a graph that `torch.export` traces, sizes are symbols, which stand for integers.
_NUMBERS: FrozenDict[Any, Any] = FrozenDict({float: float | int, int: int | torch.SymInt})
checked = beartype(conf=BeartypeConf(hint_overrides=_NUMBERS))
_thorough = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Stands in for `jaxtyping.jaxtyped` in the modules that its import hook prepares."""

    def decorate(given: Any) -> Any:
        if not inspect.isfunction(given) or inspect.isgeneratorfunction(given):
            return _thorough(given, typechecker=typechecker)
        try:
            hints = typing.get_type_hints(given, include_extras=True)
        except NameError:  # a class that is not there yet, or for mypy alone: taken for anything
            return _thorough(given, typechecker=typechecker)
        once = checked(given)
        return _thorough(once, typechecker=None) if any(map(_has_shape, hints.values())) else once

    return decorate


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(hint)))


jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]  # all that its import hook uses of the overloads
