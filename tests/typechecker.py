"""The type checker of the tests: beartype, for which an int may stand for a float, as it may for mypy.

jaxtyping binds the arguments of every call and checks them twice, so as to say more of a fault. Here a call is checked
once, shapes are bound where there are some, and the checks of a function inside another, which is defined again in each
call of the other, are compiled once: the suite takes half the time. Shapes are made of names and numbers, without
expressions of the arguments in braces.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import jaxtyping
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import AbstractArray

# In a graph that `torch.export` traces, sizes are symbols, which stand for integers.
_NUMBERS: FrozenDict[Any, Any] = FrozenDict({float: float | int, int: int | torch.SymInt})
checked = beartype(conf=BeartypeConf(hint_overrides=_NUMBERS))
_thorough = jaxtyping.jaxtyped
_shapes = _thorough("context")
"""The scope of a call, in which each name of a dimension has one size; scopes may be nested."""
_GIVEN = "__beartype_func"
"""The keyword by which what beartype compiles holds the function that it checks."""


class _Compiled(NamedTuple):
    of: Any
    checked: Any
    marks: dict[str, Any]
    has_shape: bool


_compiled: dict[CodeType, _Compiled] = {}


def jaxtyped(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Stands in for `jaxtyping.jaxtyped` in the modules that its import hook prepares."""

    def decorate(given: Any) -> Any:
        if inspect.isfunction(given):
            return _check(given, typechecker)
        if not inspect.isclass(given):
            return _thorough(given, typechecker=typechecker)
        if dataclasses.is_dataclass(given) and "__init__" in vars(given) and not hasattr(given.__init__, "__wrapped__"):
            given.__init__ = _check(given.__init__, typechecker)  # type: ignore[method-assign]  # as jaxtyping does
        return given

    return decorate


def _check(given: Any, typechecker: Callable[[Any], Any]) -> Any:
    """The function with its checks, compiled in its first call if they name a class that is not there yet."""
    try:
        return _check_now(given, typechecker)
    except NameError:
        pass
    checking: list[Any] = []

    @functools.wraps(given)
    def checked_later(*args: Any, **kwargs: Any) -> Any:
        if not checking:
            try:
                checking.append(_check_now(given, typechecker))
            except NameError:
                given.__annotations__ = {name: _known(hint, given) for name, hint in given.__annotations__.items()}
                checking.append(_check_now(given, typechecker))
        return checking[0](*args, **kwargs)

    return checked_later


def _known(hint: Any, given: Any) -> Any:
    """An annotation of a function; that of a class which is there for mypy alone is taken for anything."""
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": hint}), given.__globals__)["it"]
    except NameError:
        return Any


def _check_now(given: Any, typechecker: Callable[[Any], Any]) -> Any:
    found = _compiled.get(given.__code__)
    if found is not None and found.of.__globals__ is given.__globals__:
        once = _checking(found, given)
    else:
        hints = typing.get_type_hints(given, include_extras=True)
        has_shape = any(map(_has_shape, hints.values()))
        if has_shape and inspect.isgeneratorfunction(given):
            return _thorough(given, typechecker=typechecker)
        once = checked(given)
        found = _Compiled(given, once, dict(vars(once)), has_shape)
        if "<locals>" in given.__qualname__ and _GIVEN in (getattr(once, "__kwdefaults__", None) or {}):
            _compiled[given.__code__] = found
    return _binding_shapes(once) if found.has_shape else once


def _binding_shapes(once: Any) -> Any:
    @functools.wraps(once)
    def bound(*args: Any, **kwargs: Any) -> Any:
        with _shapes:
            return once(*args, **kwargs)

    return bound


def _checking(found: _Compiled, given: Any) -> Any:
    """The same checks of another function of the same code."""
    once = found.checked
    again = FunctionType(once.__code__, once.__globals__, given.__name__)
    again.__kwdefaults__ = {**once.__kwdefaults__, _GIVEN: given}
    vars(again).update(found.marks)
    return functools.update_wrapper(again, given)


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(hint)))


jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]  # all that its import hook uses of the overloads
# Which names a protocol has, Python 3.11 finds again for each object that it is asked about.
typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)  # type: ignore[attr-defined]  # noqa: SLF001
