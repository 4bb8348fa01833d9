"""What the tests check everywhere is checked: types and shapes, of arguments and of what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from typechecker import checked, jaxtyped

import convae
from convae.core.names import shape_text
from convae.latents import interpolate


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


def test_the_modules_of_convae_are_checked() -> None:
    model = convae.build({"preset": "torch-vae", "input": [1, 8, 8], "latent": 3, "max_filters": 8})
    assert model.decode(torch.zeros(2, 3)).mean.shape == (2, 1, 8, 8)
    with pytest.raises(Exception, match="violates"):
        shape_text("4×4")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(Exception, match="violates"):
        interpolate(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), 2)
