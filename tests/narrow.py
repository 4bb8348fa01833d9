"""What a test knows of a value and the type checker does not: said, and checked."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def narrow(kind: type[T], value: object) -> T:
    """The value, which has to be of this type."""
    assert isinstance(value, kind), f"{kind.__name__} was expected, not {value!r}"
    return value


def present(value: T | None) -> T:
    """The value, which has to be there."""
    assert value is not None
    return value
