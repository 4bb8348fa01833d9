"""What describes a model: its input, encoder, bottleneck, decoder and likelihood; or a preset and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import Named, Positive, arguments
from convae.core.config import Config, parse, read_mapping
from convae.core.errors import ConfigError
from convae.core.names import unknown
from convae.model.presets import PRESETS

SUFFIXES = (".yaml", ".yml", ".json")


class Spec(Config):
    """A model in its one stored form.

    Attributes:
        name: what the model is called.
        input: channels, then the sizes of one, two or three spatial axes.
        encoder: list of layers from the image to the features.
        bottleneck: what makes a latent of the features.
        decoder: list of layers from the latent to the raw values of the likelihood.
        likelihood: what the raw values mean.
    """

    name: str = "vae"
    input: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=4)]
    encoder: list[Any]
    bottleneck: Named
    decoder: list[Any]
    likelihood: Named = "bernoulli"


def resolve(spec: str | Path | Mapping[str, Any]) -> Spec:
    """The stored form of whatever describes a model.

    Args:
        spec: a preset's name, the path of a YAML or JSON file, or a mapping: either `preset` with the preset's
            arguments, or the keys of `Spec`.

    Raises:
        ConfigError: the name, file, keys or values are wrong.
    """
    if isinstance(spec, Mapping):
        return _from_mapping(spec, "model")
    text = str(spec)
    if text in PRESETS:
        return _from_mapping({"preset": text}, "model")
    path = Path(text)
    if path.suffix in SUFFIXES and path.exists():
        data = read_mapping(path)
        # A recipe describes its model under that key.
        return _from_mapping(data.get("model", data) if "encoder" not in data else data, text)
    if path.suffix in SUFFIXES or path.parent != Path():
        raise ConfigError(f"{text}: no such file, and no preset of that name")
    raise ConfigError(unknown("preset", text, PRESETS.names()))


def _from_mapping(data: Any, source: str) -> Spec:
    """A `Spec` from a preset and its arguments, or from its own keys."""
    if isinstance(data, str):
        return resolve(data)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: needs a mapping, got {data!r}")
    if "preset" not in data:
        return parse(Spec, data, source)
    given = dict(data)
    name = str(given.pop("preset")).replace("_", "-")
    preset = PRESETS.get(name)
    described = preset(**arguments(preset, given, f"preset {name}"))
    return parse(Spec, {"name": name, **described}, f"preset {name}")


def preset_input(spec: str | Path | Mapping[str, Any]) -> tuple[int, ...] | None:
    """The input that a description leaves open, as its preset would choose it; None where it is written down."""
    if isinstance(spec, Mapping) and ("input" in spec or "preset" not in spec):
        return None
    if not isinstance(spec, Mapping) and str(spec) not in PRESETS:
        return None
    return resolve(spec).input
