from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from made.values import type_in_words, value_in_words
from pydantic import Field

from convae.core.arguments import Fraction, ImageShape, Named, PerAxis, Positive, PositiveFloat


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "integer"),
        (Positive, "integer > 0"),
        (Positive | None, "integer > 0, or `null`"),
        (PositiveFloat, "number > 0"),
        (Fraction, "number ≥ 0, ≤ 1"),
        (Annotated[float, Field(ge=0, lt=1)], "number ≥ 0, < 1"),
        (PerAxis, "integer > 0 or a list of them"),
        (ImageShape, "list of: integer > 0"),
        (tuple[float, float], "list of 2: number"),
        (Literal["crop", "pad"], "`crop` or `pad`"),
        (Positive | Literal["depthwise"], "integer > 0 or `depthwise`"),
        (Named, "name, or name with arguments"),
        (float | Named, "number or name, or name with arguments"),
        (bool, "`true` or `false`"),
        (dict[str, Any], "mapping"),
        (list[Any], "list of: anything"),
        (Path, "path"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    assert type_in_words(annotation) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "`null`"),
        (True, "`true`"),
        (1e-5, "`1e-5`"),
        (0.1, "`0.1`"),
        ((3, 64, 64), "`[3, 64, 64]`"),
        ({"gaussian": {"sigma": "learned"}}, "`{gaussian: {sigma: learned}}`"),
        ("same", "`same`"),
    ],
)
def test_values_as_they_are_written(value: Any, words: str) -> None:
    assert value_in_words(value) == words
