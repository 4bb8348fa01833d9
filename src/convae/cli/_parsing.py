"""Values of arguments and options that Typer does not parse."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, TypeVar

from convae.core.errors import ConfigError
from convae.core.paths import local_path

Number = TypeVar("Number", int, float)
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def recipe_and_overrides(words: list[str], written: str = "key.path=value") -> tuple[str | None, list[str]]:
    """The recipe among the arguments of a command, if there is one, and the values that replace the recipe's.

    Args:
        words: each is a recipe, or holds `=` and is not an existing file.
        written: how an override is written, for the message.

    Raises:
        ConfigError: there is more than one recipe.
    """
    files = [word for word in words if "=" not in word or local_path(word).is_file()]
    if len(files) > 1:
        raise ConfigError(f"more than one recipe: {', '.join(files)}. Write options as {written}")
    return (files[0] if files else None), [word for word in words if word not in files]


def data_source(text: str, where: str) -> Any:
    """A data source: a name, a path, or a mapping with options, as in a recipe."""
    from convae.core.documents import parse_yaml

    return parse_yaml(text, where) if text.startswith("{") else text


def image_size(text: str) -> list[int] | int:
    """`64`, or one number for each axis, such as `48x64`.

    Raises:
        ConfigError: it is something else.
    """
    numbers = re.split(r"[x×,]", text.strip("[]() ").lower().replace(" ", ""))
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise ConfigError(f"--size: expected a number such as 64, or one per axis such as 48x64, got '{text}'")
    return int(numbers[0]) if len(numbers) == 1 else [int(number) for number in numbers]


def comma_separated(text: str, option: str, kind: type[Number]) -> list[Number]:
    """Finite numbers separated by commas.

    Raises:
        ConfigError: it is something else.
    """
    try:
        found = [kind(part) for part in text.split(",")]
        if not all(map(math.isfinite, found)):
            raise ValueError("not finite")
        return found
    except ValueError as error:
        raise ConfigError(f"{option}: expected numbers separated by commas, such as 0,1, got '{text}'") from error


def cluster_count(text: str) -> int | Literal["auto"]:
    """A number of clusters, or `auto`.

    Raises:
        ConfigError: it is something else.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"the number of clusters must be 1 or more, or auto, got '{text}'")
    return int(text)


def byte_count(text: str) -> int:
    """The number of bytes of --memory: `4GiB`, `500 MB`.

    Raises:
        ConfigError: it is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|)", text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"--memory: needs a number of bytes such as 4GiB or 500MB, not '{text}'")
    return round(float(found[1]) * _UNITS[found[2]])
