"""Helpers of the checks, and the checks common to all kinds."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import ConvaeError
from convae.core.registry import Registry, canonical_name


def require(condition: object, message: str) -> None:
    """Raises `AssertionError` with a message unless a condition is true."""
    if not condition:
        raise AssertionError(message)


@contextlib.contextmanager
def no_errors(where: str) -> Iterator[None]:
    """Converts convae's errors to `AssertionError`."""
    try:
        yield
    except ConvaeError as error:
        raise AssertionError(f"{where}: {error}") from error


@contextlib.contextmanager
def unchanged(where: str, *tensors: Tensor) -> Iterator[None]:
    """A context that must not change tensors in place, since others use them too."""
    before = [tensor.detach().clone() for tensor in tensors]
    yield
    for tensor, old in zip(tensors, before, strict=True):
        require(torch.equal(tensor, old), f"{where}: changes its input in place")


def name_of(registry: Registry, entry: str | Callable[..., Any]) -> str:
    """The registered name of a class or function: as given, its file's name, or its dotted path.

    Raises:
        AssertionError: the registry does not find it under that name, or it has no docstring.
    """
    if isinstance(entry, str):
        name = canonical_name(entry)
    elif entry.__module__.startswith(f"{registry.package}."):
        name = canonical_name(entry.__module__.rpartition(".")[2].rstrip("_"))
    else:
        name = f"{entry.__module__}:{entry.__qualname__}"
        require("<locals>" not in name, f"{name}: must be at the top level of a module, so that a recipe can name it")
    with no_errors(f"{registry.kind} {name}"):
        found = registry.get(name)
    require(isinstance(entry, str) or found is entry, f"{name}: the registry finds {found!r} instead of {entry!r}")
    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    require(
        len(summary) > 15 and summary.endswith("."),
        f"{name}: must have a docstring whose first line is a sentence, got {summary!r}",
    )
    return name
