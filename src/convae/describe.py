"""Descriptions of models: read from any notation, built into models, and written in a notation.

This module joins `notations` and `model`, which do not import each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from convae.core.arguments import parse_arguments
from convae.core.config import override, parse
from convae.core.description import Spec, layer_list_arguments, require_list
from convae.core.documents import read_text, read_value
from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.core.names import one_line, short_repr, unknown_message
from convae.core.paths import local_path
from convae.core.registry import canonical_name
from convae.model.construct import construct
from convae.model.initialize import initialize
from convae.model.layers import LAYERS
from convae.model.mirror import raw_channels
from convae.model.presets import PRESETS
from convae.model.vae import VAE
from convae.notations import (
    propose_arch_defs,
    read_arch_def,
    read_list,
    read_python,
    write_codes,
    write_python,
    write_yaml,
)

__all__ = ["build", "resolve", "write"]

SUFFIXES = (".yaml", ".yml", ".json", ".py")
WEIGHTS = (".pt", ".pth", ".safetensors")
LISTS = ("encoder", "decoder", "classifier")
NOTATIONS = ("arch-def", "codes", "yaml")
"""The notations in which `write` can write a model."""
BESIDE = ("bottleneck", "prior", "classifier", "condition", "max_parameters")
"""Keys allowed next to the arguments of any preset."""
INPUT_LAYERS = "input_layers"
"""Key of layers before the encoder of any preset."""


def resolve(spec: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Spec:
    """Reads the description of a model into its canonical form.

    Args:
        spec: the name of a preset; or a mapping: `preset` with its arguments, and `input_layers` before those of its
            encoder, an `arch_def` dictionary, or the keys of `Spec`, with lists of layers or layer codes, or paths of
            JSON or YAML files that contain them; or the path of a YAML or JSON file with such a mapping or a recipe, or
            of a Python file that assigns an `arch_def`, which is parsed, not executed.
        overrides: `key.path=value` each, applied to the mapping first.

    Raises:
        ConfigError: invalid name, file, keys or values.
    """
    given, source = find_description(spec)
    if overrides:
        given, source = find_description(override(given, overrides, Spec.model_fields), source=source)
    if "preset" in given:
        name = canonical_name(str(given.pop("preset")))
        preset = PRESETS.get(name)
        beside = {key: given.pop(key) for key in BESIDE if key in given}
        first = given.pop(INPUT_LAYERS, [])
        require_list(first, f"model.{INPUT_LAYERS}")
        found = preset(**parse_arguments(preset, given, f"preset {name}"))
        if not isinstance(found, Mapping) or "encoder" not in found:
            raise ConfigError(f"preset {name}: must return a description, a mapping with the key encoder and others")
        given = {
            **found,
            "name": name.rpartition(":")[2],
            **beside,
        }
        given["encoder"] = [*first, *given["encoder"]]
        source = f"preset {name}"
    elif "encode" in given or {"latent", "decode"} <= set(given):
        given = read_arch_def(given, source, raw_channels)
    catalog = _Catalog()
    lists = {side: read_list(given[side], f"model.{side}", catalog) for side in LISTS if given.get(side) is not None}
    return parse(Spec, {**given, **lists}, source)


class _Catalog:
    """The registered layers, for the notations."""

    def __contains__(self, name: object) -> bool:
        return name in LAYERS

    def list_arguments(self, name: str) -> Collection[str]:
        """Empty for an unknown layer, which the network reports with its place."""
        try:
            return layer_list_arguments(LAYERS.get(name))
        except ConvaeError:
            return ()


def build(
    spec: str | Path | Mapping[str, Any] | Spec,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    image_mean: Sequence[float] | None = None,
) -> VAE:
    """A new model, with fresh weights, in training mode.

    Args:
        spec: a preset's name, the path of a YAML or JSON file, or a mapping such as
            `{"preset": "torch-vae", "input": [3, 64, 64], "latent": 64}`; `input` is channels, then sizes.
        seed: for the weights; equal seeds give equal models.
        device: device of the parameters.
        image_mean: mean of each channel of the images, in [0, 1], at which the output of the decoder starts.
            `convae.train` measures it; by default, the last bias is 0.

    Raises:
        ConfigError: invalid description; the message lists every error. Or `image_mean` is not one number per channel.
        ShapeError: a layer does not accept its input shape.
    """
    model = construct(spec if isinstance(spec, Spec) else resolve(spec))
    if image_mean is not None and len(image_mean) != model.input_shape[0]:
        raise ConfigError(
            f"image_mean: expected {model.input_shape[0]} numbers, one per channel, got {len(image_mean)}"
        )
    initialize(model, seed, device, image_mean)
    return model


def write(spec: Spec, notation: str) -> str:
    """Writes a model in a notation; `resolve` reads it back as the same model.

    Args:
        spec: canonical description of the model.
        notation: one of `NOTATIONS`.

    Raises:
        ConfigError: unknown notation, or it cannot express the model.
    """
    notation = notation.replace("_", "-")
    if notation == "yaml":
        return write_yaml(spec)
    if notation == "codes":
        model = construct(spec)
        stored = model.spec
        networks = {side: (getattr(stored, side), model.networks[side]) for side in ("encoder", "decoder")}
        layers = {
            side: list(zip(specs, [network.shape_in, *network.shapes], strict=False))
            for side, (specs, network) in networks.items()
        }
        return write_codes(stored, layers, lambda name, given: parse_arguments(LAYERS.get(name), given, name))
    if notation == "arch-def":
        for proposed in propose_arch_defs(spec):
            if _describes(proposed, spec):
                return write_python(proposed)
        raise ConfigError(
            f"model '{spec.name}' cannot be written as an arch_def, which has convolutions with ReLU and linear maps "
            "only. Use --as yaml"
        )
    raise ConfigError(unknown_message("notation", notation, NOTATIONS))


def _describes(arch_def: Mapping[str, Any], spec: Spec) -> bool:
    """Whether a dictionary describes this model."""
    try:
        return construct(resolve(arch_def)).spec == construct(spec).spec
    except (ConfigError, ShapeError):
        return False


def find_description(
    written: Any, folder: Path = Path(), source: str = "model", seen: tuple[Path, ...] = ()
) -> tuple[dict[str, Any], str]:
    """Returns a description as a mapping, with its location for messages; names become `preset`, files are read.

    Args:
        written: name of a preset, path of a file, or mapping.
        folder: base of relative paths.
        source: location of `written` for messages.
        seen: files that referred to this one.

    Raises:
        ConfigError: none of these, or a file cannot be read or does not describe a model.
    """
    if isinstance(written, Mapping):
        return _check_keys(written, source, folder), source
    if not isinstance(written, str | Path):
        raise ConfigError(
            f"{source}: must be a preset name, a file path or a mapping, got {one_line(short_repr(written))}"
        )
    if str(written) in PRESETS:
        return {"preset": str(written)}, source
    path = folder / local_path(written)
    if path.suffix not in SUFFIXES or not _is_true(path.is_file):
        raise ConfigError(_no_description(path, str(written)))
    if path.resolve() in seen:
        raise ConfigError(f"{path}: circular reference: its model refers to this file")
    data = read_python(read_text(path), str(path)) if path.suffix == ".py" else read_value(path)
    if isinstance(data, list):
        raise ConfigError(
            f"{path}: contains a list of layers, not a model. Write a mapping with input, encoder and decoder, and use "
            f"this file for one of them, such as encoder: {path.name}"
        )
    if isinstance(data, Mapping) and "sha256" in data:
        raise ConfigError(f"{path}: is a file of a saved model. Pass its folder, {path.parent}")
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: must contain a mapping, got {short_repr(data)}")
        # The file may be a recipe.
    inner = data["model"] if "model" in data and not {"encoder", "encode"} & set(data) else data
    return find_description(inner, path.parent, str(path), (*seen, path.resolve()))


def _no_description(path: Path, written: str) -> str:
    """Explains why a path does not describe a model."""
    if _is_true(path.is_dir):
        return f"{path}: is a folder, not a description. Read a saved model with convae.load"
    if path.suffix in WEIGHTS and _is_true(path.exists):
        return f"{path}: contains weights, not a description. Use convae import"
    if _is_true(path.exists):
        return f"{path}: descriptions of models are {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} files"
    if path.suffix in SUFFIXES or Path(written).parent != Path():
        return f"{path}: no such file, and no preset with this name"
    return unknown_message("preset", written, PRESETS.names())


def _is_true(question: Callable[[], bool]) -> bool:
    """The answer of a question about a path; False if the text is not a valid path."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _check_keys(data: Mapping[Any, Any], source: str, folder: Path) -> dict[str, Any]:
    """Checks the keys of a description, and replaces paths of lists by the content of their files."""
    if "(" in {text[:1] for key in ("input", "encode", "decode") for text in _texts(data.get(key))}:
        raise ConfigError(f"{source}: YAML and JSON have no parentheses. Use square brackets, as in [8, 3, [2, 2]]")
    if not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{source}: must be a mapping with string keys, got {short_repr(data)}")
    given = dict(data)
    for side in LISTS:
        if isinstance(given.get(side), str):
            given[side] = _list_from_file(folder / local_path(given[side]), f"{source}: {side}")
    return given


def _texts(value: Any) -> Iterator[str]:
    """All strings in a nested list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _list_from_file(path: Path, where: str) -> Any:
    """Reads a list of layers from a file."""
    try:
        return read_value(path)
    except ConfigError as error:
        raise ConfigError(f"{where}: must be a list of layers or a file with one ({error})") from error
