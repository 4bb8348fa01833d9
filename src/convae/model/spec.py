"""Whatever describes a model, in any notation, becomes its one stored form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convae.core.arguments import arguments
from convae.core.config import override, parse, read_text, read_value
from convae.core.errors import ConfigError
from convae.core.names import brief, shown, unknown
from convae.model.description import Spec
from convae.model.notations.arch_def import from_arch_def, read_python
from convae.model.presets import PRESETS

SUFFIXES = (".yaml", ".yml", ".json", ".py")
LISTS = ("encoder", "decoder", "classifier")
BESIDE = ("bottleneck", "classifier", "condition", "max_parameters")
"""What may stand beside the arguments of any preset."""


def resolve(spec: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Spec:
    """The stored form of whatever describes a model.

    Args:
        spec: a preset's name; or a mapping: `preset` with the preset's arguments, an `arch_def` dictionary, or the
            keys of `Spec`, with lists of layers or of layer codes, or the paths of JSON or YAML files that hold
            them; or the path of a YAML or JSON file with such a mapping or with a recipe, or of a Python file that
            assigns an `arch_def`, which is read and not run.
        overrides: `key.path=value` each, put into the mapping first.

    Raises:
        ConfigError: the name, file, keys or values are wrong.
    """
    return _from_any(spec, "model", Path(), overrides, ())


def preset_input(spec: str | Path | Mapping[str, Any]) -> tuple[int, ...] | None:
    """The input that a description leaves open, as its preset would choose it; None where it is written down."""
    if isinstance(spec, Mapping) and ("input" in spec or "preset" not in spec):
        return None
    if not isinstance(spec, Mapping) and str(spec) not in PRESETS:
        return None
    return resolve(spec).input


def _from_any(data: Any, source: str, folder: Path, overrides: Sequence[str], seen: tuple[Path, ...]) -> Spec:
    """A `Spec` from a mapping, a name or a path; `seen` are the files that led here."""
    if isinstance(data, Mapping):
        return _from_mapping(data, source, folder, overrides)
    if not isinstance(data, str | Path):
        raise ConfigError(f"{source}: needs a preset's name, a file's path or a mapping, got {brief(shown(data))}")
    text = str(data)
    if text in PRESETS:
        return _from_mapping({"preset": text}, source, folder, overrides)
    path = Path(text)
    if path.suffix in SUFFIXES and path.exists():
        return _from_file(path, overrides, seen)
    if path.suffix in SUFFIXES or path.parent != Path():
        raise ConfigError(f"{text}: no such file, and no preset of that name")
    raise ConfigError(unknown("preset", text, PRESETS.names()))


def _from_file(path: Path, overrides: Sequence[str], seen: tuple[Path, ...]) -> Spec:
    """A `Spec` from a YAML, JSON or Python file."""
    source = str(path)
    if path.resolve() in seen:
        raise ConfigError(f"{source}: its model leads back to this file")
    data = read_python(read_text(path), source) if path.suffix == ".py" else read_value(path)
    if isinstance(data, list):
        raise ConfigError(
            f"{source}: a list of layers is only a part of a model: write a mapping of input, encoder and decoder, "
            f"with this file's name in place of a list, such as encoder: {path.name}"
        )
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: needs a mapping, got {shown(data)}")
    if "model" in data and not {"encoder", "encode"} & set(data):
        # A recipe describes its model under that key.
        return _from_any(data["model"], source, path.parent, overrides, (*seen, path.resolve()))
    return _from_mapping(data, source, path.parent, overrides)


def _from_mapping(data: Mapping[Any, Any], source: str, folder: Path, overrides: Sequence[str]) -> Spec:
    """A `Spec` from a preset and its arguments, an `arch_def`, or its own keys; paths are relative to `folder`."""
    if "(" in {text[:1] for key in ("input", "encode", "decode") for text in _texts(data.get(key))}:
        raise ConfigError(f"{source}: YAML and JSON have no round brackets: write square ones, as in [8, 3, [2, 2]]")
    if not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{source}: needs a mapping of names to values, got {shown(data)}")
    given = override(data, overrides) if overrides else dict(data)
    if "preset" in given:
        name = str(given.pop("preset")).replace("_", "-")
        preset = PRESETS.get(name)
        beside = {key: given.pop(key) for key in BESIDE if key in given}
        given = {**preset(**arguments(preset, given, f"preset {name}")), "name": name, **beside}
        source = f"preset {name}"
    elif "encode" in given or {"latent", "decode"} <= set(given):
        given = from_arch_def(given, source)
    for side in LISTS:
        if isinstance(given.get(side), str):
            given[side] = _list_from_file(folder / given[side], f"{source}: {side}")
    return parse(Spec, given, source)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value that may be a list of lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _list_from_file(path: Path, where: str) -> Any:
    """What a file holds in place of a list of layers."""
    try:
        return read_value(path)
    except ConfigError as error:
        raise ConfigError(f"{where} is neither a list of layers nor a file with one ({error})") from error
