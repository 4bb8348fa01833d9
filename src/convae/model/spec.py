"""Whatever describes a model, in any notation, becomes its one stored form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convae.core.arguments import arguments
from convae.core.config import override, parse
from convae.core.documents import read_text, read_value
from convae.core.errors import ConfigError
from convae.core.names import one_line, short_repr, unknown
from convae.core.paths import local_path
from convae.core.registry import canonical_name
from convae.model.description import Spec
from convae.model.notations.arch_def import from_arch_def, read_python
from convae.model.presets import PRESETS

SUFFIXES = (".yaml", ".yml", ".json", ".py")
WEIGHTS = (".pt", ".pth", ".safetensors")
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
    given, source = described(spec)
    if overrides:
        given, source = described(override(given, overrides), source=source)
    if "preset" in given:
        name = canonical_name(str(given.pop("preset")))
        preset = PRESETS.get(name)
        beside = {key: given.pop(key) for key in BESIDE if key in given}
        given = {**preset(**arguments(preset, given, f"preset {name}")), "name": name.rpartition(":")[2], **beside}
        source = f"preset {name}"
    elif "encode" in given or {"latent", "decode"} <= set(given):
        given = from_arch_def(given, source)
    return parse(Spec, given, source)


def described(
    written: Any, folder: Path = Path(), source: str = "model", seen: tuple[Path, ...] = ()
) -> tuple[dict[str, Any], str]:
    """A description as a mapping, and where it was found: a name becomes `preset`, and files that it names are read.

    Args:
        written: a preset's name, a file's path, or a mapping.
        folder: what paths are relative to.
        source: where this was written.
        seen: the files that led here.

    Raises:
        ConfigError: it is none of these, or a file cannot be read or describes no model.
    """
    if isinstance(written, Mapping):
        return _read_in(written, source, folder), source
    if not isinstance(written, str | Path):
        raise ConfigError(
            f"{source}: needs a preset's name, a file's path or a mapping, got {one_line(short_repr(written))}"
        )
    if str(written) in PRESETS:
        return {"preset": str(written)}, source
    path = folder / local_path(written)
    if path.suffix not in SUFFIXES or not _is(path.is_file):
        raise ConfigError(_no_description(path, str(written)))
    if path.resolve() in seen:
        raise ConfigError(f"{path}: its model leads back to this file")
    data = read_python(read_text(path), str(path)) if path.suffix == ".py" else read_value(path)
    if isinstance(data, list):
        raise ConfigError(
            f"{path}: a list of layers is only a part of a model: write a mapping of input, encoder and decoder, "
            f"with this file's name in place of a list, such as encoder: {path.name}"
        )
    if isinstance(data, Mapping) and "sha256" in data:
        raise ConfigError(f"{path}: is part of a saved model: give its folder, {path.parent}")
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: needs a mapping, got {short_repr(data)}")
    # A recipe describes its model under that key.
    inner = data["model"] if "model" in data and not {"encoder", "encode"} & set(data) else data
    return described(inner, path.parent, str(path), (*seen, path.resolve()))


def _no_description(path: Path, written: str) -> str:
    """Why nothing under a path describes a model."""
    if _is(path.is_dir):
        return f"{path}: is a folder, which describes no model; one with a saved model is read by convae.load"
    if path.suffix in WEIGHTS and _is(path.exists):
        return f"{path}: holds weights, which describe no model: see convae import"
    if _is(path.exists):
        return f"{path}: is no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, which alone describe models"
    if path.suffix in SUFFIXES or Path(written).parent != Path():
        return f"{path}: no such file, and no preset of that name"
    return unknown("preset", written, PRESETS.names())


def _is(question: Callable[[], bool]) -> bool:
    """Whether a path is something; no text that cannot be a path is."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _read_in(data: Mapping[Any, Any], source: str, folder: Path) -> dict[str, Any]:
    """A description with its keys checked and, in place of the paths of lists, what their files hold."""
    if "(" in {text[:1] for key in ("input", "encode", "decode") for text in _texts(data.get(key))}:
        raise ConfigError(f"{source}: YAML and JSON have no round brackets: write square ones, as in [8, 3, [2, 2]]")
    if not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{source}: needs a mapping of names to values, got {short_repr(data)}")
    given = dict(data)
    for side in LISTS:
        if isinstance(given.get(side), str):
            given[side] = _list_from_file(folder / local_path(given[side]), f"{source}: {side}")
    return given


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
