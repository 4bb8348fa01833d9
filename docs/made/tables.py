"""Tables of whatever a person can name, made from the code that reads those names.

Every function gives Markdown; pages call them between double braces.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from convae.core.config import Config
from convae.core.registry import Registry
from made.docstrings import docstring
from made.values import type_in_words, value_in_words


def found(place: str) -> Any:
    """What `convae.model.layers:LAYERS` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    head = list(head)
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)]) + "\n"


def overview(registry: str, *attributes: str) -> str:
    """One row for each entry: its name, some of its attributes, its docstring's first sentence.

    Args:
        registry: place of the registry, `module:name`.
        attributes: of the entries, such as `unit`.
    """
    entries: Registry = found(registry)
    rows = []
    for name in entries.names():
        known = [getattr(entries.get(name), attribute, None) for attribute in attributes]
        rows.append([f"[`{name}`](#{_anchor(entries, name)})", *map(_told, known), entries.summary(name)])
    return table([entries.kind, *attributes, ""], rows)


def details(registry: str, level: int = 3) -> str:
    """A heading for each entry, its docstring, its arguments and its smallest example.

    Args:
        registry: place of the registry, `module:name`.
        level: of the headings.
    """
    entries: Registry = found(registry)
    parts = []
    for name in entries.names():
        entry = entries.get(name)
        parts += [f"({_anchor(entries, name)})=", f"{'#' * level} `{name}`", "", docstring(entry).text, ""]
        rows = list(_argument_rows(entry))
        if rows:
            parts += [table(["argument", "type", "default", ""], rows)]
        example = getattr(entry, "example", None)
        if example:
            parts += [f"Smallest example: {value_in_words({name: dict(example)})}", ""]
    return "\n".join(parts)


def arguments(place: str) -> str:
    """The keyword-only arguments of a class or function: name, type, default, sentence."""
    return table(["argument", "type", "default", ""], _argument_rows(found(place)))


def _argument_rows(target: Any) -> Iterator[list[str]]:
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    said = docstring(target).entries
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            needed = parameter.default is inspect.Parameter.empty
            default = "*required*" if needed else value_in_words(parameter.default)
            yield [f"`{name}`", type_in_words(hints.get(name, Any)), default, said.get(name, "")]


def options(place: str, key: str = "", level: int = 2) -> str:
    """The options of a configuration model and of the models in it, each under the key that leads there.

    Args:
        place: of the model, `module:name`.
        key: where the model is in the file.
        level: of the headings; the first model has none.
    """
    return "\n".join(_options(found(place), key, level, {}))


def _options(model: type[Config], key: str, level: int, known: dict[Any, str]) -> Iterator[str]:
    known[model] = key
    said = docstring(model).entries
    rows, inner = [], []
    for name, field in model.model_fields.items():
        path = f"{key}.{name}" if key else name
        nested = next(iter(_models_in(field.annotation)), None)
        annotation = typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        kind = type_in_words(annotation)
        if nested is not None:
            if nested not in known:
                inner.append((nested, path))
                known[nested] = path
            kind = f"{'list of ' * _many(field.annotation)}[`{known[nested]}`](#{_key_anchor(known[nested])})"
        default = "*required*" if field.is_required() else value_in_words(field.get_default(call_default_factory=True))
        rows.append([f"`{name}`", kind, default, field.description or said.get(name, "")])
    yield table(["option", "type", "default", ""], rows)
    for nested, path in inner:
        yield f"({_key_anchor(path)})=\n{'#' * level} `{path}`\n\n{docstring(nested).text}\n"
        yield from _options(nested, path, level, known)


def _many(annotation: Any) -> bool:
    """Whether a list of models is asked for."""
    origin = typing.get_origin(annotation)
    return origin in (list, tuple) or any(_many(part) for part in typing.get_args(annotation) if origin)


def table_in(place: str) -> str:
    """The table in a text of the code, such as the README that a run writes.

    Args:
        place: of the text, `module:name`.
    """
    return "\n".join(line for line in found(place).splitlines() if line.startswith("|")) + "\n"


def _models_in(annotation: Any) -> list[type[Config]]:
    """The configuration models in an annotation such as `tuple[StageConfig, ...] | None`."""
    if inspect.isclass(annotation) and issubclass(annotation, Config):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _anchor(entries: Registry, name: str) -> str:
    return f"{entries.kind.replace(' ', '-')}-{name}"


def _key_anchor(key: str) -> str:
    return "option-" + key.replace(".", "-").replace("_", "-")


def _told(value: Any) -> str:
    """An entry's attribute in a table."""
    return "" if value is None else str(value)
