"""What the tests check everywhere is checked: types and shapes, of arguments and of what comes back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from typechecker import checked, jaxtyped

import convae
from convae.core.names import shape_text
from convae.latents import interpolate

if TYPE_CHECKING:
    from decimal import Decimal

check = jaxtyped(typechecker=checked)


def plain(a: int, _: list[str] | None = None) -> str:
    return "a" if a else a  # type: ignore[return-value]  # wrong on purpose


def shaped(a: Float[Tensor, "batch value"], b: Float[Tensor, " batch"]) -> Float[Tensor, " value"]:
    return (a * b[:, None]).sum(0) if len(a) > 1 else b


def generated(a: Float[Tensor, "batch value"], b: Float[Tensor, " batch"]) -> Iterator[int]:
    yield len(a) + len(b)


FINE: list[tuple[Callable[..., Any], list[Any]]] = [
    (plain, [1]),
    (plain, [2, ["b"]]),
    (shaped, [torch.zeros(2, 3), torch.zeros(2)]),
    (generated, [torch.zeros(2, 3), torch.zeros(2)]),
]
WRONG: list[tuple[Callable[..., Any], list[Any]]] = [
    (plain, [1.5]),
    (plain, [1, [2]]),
    (plain, [0]),
    (shaped, [torch.zeros(2, 3), torch.zeros(3)]),
    (shaped, [torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2)]),
    (shaped, [torch.zeros(1, 3), torch.zeros(1)]),
    (generated, [torch.zeros(2, 3), torch.zeros(3)]),
]


@pytest.mark.parametrize(("function", "given"), FINE)
def test_what_is_right_passes(function: Callable[..., Any], given: list[Any]) -> None:
    jaxtyped(typechecker=checked)(function)(*given)


@pytest.mark.parametrize(("function", "given"), WRONG)
def test_what_is_wrong_is_told(function: Callable[..., Any], given: list[Any]) -> None:
    with pytest.raises(Exception, match=r"[Vv]iolat|Type-check"):
        jaxtyped(typechecker=checked)(function)(*given)


def made(word: str) -> Callable[..., str]:
    def repeated(times: int = 2, *, end: str = "") -> str:
        """Says it."""
        return word * times + end if times else times  # type: ignore[return-value]  # wrong on purpose

    return jaxtyped(typechecker=checked)(repeated)  # type: ignore[no-any-return]


def test_functions_inside_a_function_are_each_checked_and_each_themselves() -> None:
    first, second = made("a"), made("b")
    assert (first(), second(3), first(1, end="c")) == ("aa", "bbb", "ac")
    assert second.__doc__ == "Says it."
    for function in (first, second):
        for given in ("a", 0):
            with pytest.raises(Exception, match="violat"):
                function(given)


def test_what_is_changed_of_one_function_is_not_changed_of_another() -> None:
    first = made("a")
    first.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    functools.update_wrapper(first, shaped)
    second = made("b")
    assert second.__name__ == "repeated"
    assert list(inspect.signature(second).parameters) == ["times", "end"]


@check
@dataclass
class Pair:
    """Tensors of one batch."""

    a: Float[Tensor, "batch value"]
    b: Float[Tensor, " batch"]

    @check
    def other(self, given: Pair) -> Pair:
        """A method with the name of its class."""
        return given

    @check
    def number(self, given: Decimal, ones: Float[Tensor, " one"]) -> Float[Tensor, " one"]:
        """A method with a name for mypy alone."""
        return ones * int(given)


def test_fields_are_checked_and_names_that_are_not_there_yet() -> None:
    pair = Pair(torch.zeros(2, 3), torch.zeros(2))
    assert pair.other(pair) is pair
    one: Any = 1
    assert pair.number(one, torch.ones(3)).sum() == 3
    for function, given in (
        (Pair, (torch.zeros(2, 3), torch.zeros(3))),
        (Pair, (torch.zeros(2, 3), 1)),
        (pair.other, (1,)),
        (pair.number, (1, torch.zeros(2, 3))),
    ):
        with pytest.raises(Exception, match=r"[Vv]iolat|Type-check"):
            function(*given)


def test_the_modules_of_convae_are_checked() -> None:
    model = convae.build({"preset": "torch-vae", "input": [1, 8, 8], "latent": 3, "max_filters": 8})
    assert model.decode(torch.zeros(2, 3)).mean.shape == (2, 1, 8, 8)
    with pytest.raises(Exception, match="violates"):
        shape_text("4×4")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(Exception, match="violates"):
        interpolate(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), 2)
