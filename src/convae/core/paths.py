"""Resolution of paths, and validation of names that become file names.

`~` is the home directory. A relative path in a recipe file is relative to the folder of that file, any other to the
working directory. Stored paths are absolute.
"""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from convae.core.errors import ConfigError

MAX_NAME_BYTES = 150
"""Length limit of a name that becomes a file name; file systems allow 255, and convae adds suffixes."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Remote:
    """Marks a parameter that is a path if it exists locally, and otherwise a remote name."""


@dataclass(frozen=True)
class PathLookup:
    """Marks a parameter annotated as a path that may also be a name.

    Attributes:
        find: gives the absolute path of what is written, relative to a folder.
    """

    find: Callable[[str | os.PathLike[str], Path], Path]


PathOrName = Annotated[str, _Remote()]
"""A local path if it exists or is written as one (`/…`, `./…`, `~…`), otherwise a remote name."""


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path with `~` expanded; a relative one stays relative.

    Raises:
        ConfigError: it is a URL or contains a NUL character.
    """
    text = os.fsdecode(path)
    if "\0" in text:
        raise ConfigError(f"{text!r}: a path cannot contain a NUL character")
        # `Path` drops the second slash of a URL.
    if (found := _URL.match(text)) is not None and not os.path.lexists(text.partition("/")[0]):
        address = f"{found[1]}://{text[found.end() :]}"
        raise ConfigError(f"{address}: URLs are not supported. Download the file and give its local path")
        # Not Path.expanduser, which fails for an unknown user.
    return Path(os.path.expanduser(text))  # noqa: PTH111


def absolute_path(path: str | os.PathLike[str], folder: Path | None = None) -> Path:
    """An absolute, normalized path.

    Args:
        path: the path as written.
        folder: base of a relative path; by default the working directory.

    Raises:
        ConfigError: as `local_path`.
    """
    found = ((folder or Path()) / local_path(path)).absolute()
    if ".." not in found.parts:
        return found
    # After a link, `..` is not the folder written before it.
    end = len(found.parts) - found.parts[::-1].index("..")
    return Path(*found.parts[:end]).resolve().joinpath(*found.parts[end:])


def with_absolute_paths(
    target: Callable[..., Any], given: Mapping[str, Any], folder: Path | None = None
) -> dict[str, Any]:
    """Makes the arguments absolute that the signature of `target` annotates as paths.

    Args:
        target: a class or function with annotations `Path` or `PathOrName`, also in lists, or in the arguments of
            entries that are arguments themselves.
        given: its arguments as written.
        folder: base of relative paths; by default the working directory.

    Raises:
        ConfigError: as `local_path`.
    """
    hints = _annotations(target)
    found = {}
    for key, value in given.items():
        try:
            found[key] = _absolute(value, hints.get(key), folder)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from error
    return found


@cache  # they are strings, and each layer of each model asks for them
def _annotations(target: Callable[..., Any]) -> Mapping[str, Any]:
    is_model = hasattr(target, "model_fields")  # a pydantic model, whose class has the annotations
    function = target.__init__ if inspect.isclass(target) and not is_model else target
    return typing.get_type_hints(function, include_extras=True)


def _absolute(value: Any, hint: Any, folder: Path | None) -> Any:
    if isinstance(value, list | tuple):
        return [_absolute(item, hint, folder) for item in value]
    if isinstance(value, Mapping):
        return _absolute_in_entry(value, hint, folder)
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        return value
    inner = [hint, *_inner(hint)]
    lookup = next((each for each in inner if isinstance(each, PathLookup)), None)
    if lookup is not None:
        return str(lookup.find(value, folder or Path()))
    if Path in inner:
        return str(absolute_path(value, folder))
    if any(isinstance(each, _Remote) for each in inner):
        text = os.fsdecode(value)
        is_written_as_path = text.startswith(("/", "~", "./", "../")) or text in (".", "..")
        if is_written_as_path or absolute_path(text, folder).exists():
            return str(absolute_path(text, folder))
    return value


def _absolute_in_entry(value: Mapping[Any, Any], hint: Any, folder: Path | None) -> Any:
    """Likewise in the arguments of an entry: a mapping of its name to them; unknown names are left to its parser."""
    validators = [getattr(each, "func", None) for each in _inner(hint)]
    find = next((getattr(each, "target", None) for each in validators if hasattr(each, "target")), None)
    if find is None:
        return value
    found = {}
    for name, given in value.items():
        try:
            target = find(name) if isinstance(given, Mapping) else None
        except ConfigError:
            target = None
        found[name] = given if target is None else with_absolute_paths(target, given, folder)
    return found


def _inner(hint: Any) -> list[Any]:
    """The components of an annotation such as `Annotated[list[Path], …] | None`."""
    parts = [*typing.get_args(hint), *getattr(hint, "__metadata__", ())]
    return [*parts, *(deep for part in parts for deep in _inner(part))]


def check_name(name: str) -> str:
    """Checks that the name of a run is a valid folder name on every system; returns it unchanged.

    Raises:
        ValueError: the name is invalid; the message says why.
    """
    reasons = {
        "must not be blank": not name.strip(),
        "must not contain '/' or '\\'. Use --out to choose the folder of a run": set(name) & {"/", "\\"},
        "must not contain control characters": _CONTROL.search(name),
        "must not begin with '.' or '-'": name.startswith((".", "-")),
        "must not begin or end with a space": name != name.strip(),
        "must not end with '.'": name.endswith("."),
        "must not be the name of a device": _DEVICES.fullmatch(name),
        f"must not be longer than {MAX_NAME_BYTES} bytes": len(name.encode(errors="replace")) > MAX_NAME_BYTES,
    }
    for reason, applies in reasons.items():
        if applies:
            raise ValueError(reason)
    return name


def safe_name(text: str) -> str:
    """A valid name similar to `text`, for names derived from others, such as those of folders."""
    found = _without_ends(re.sub(r"[/\\]", "_", _CONTROL.sub("_", text)))
    return _without_ends(f"_{found}") if not found or _DEVICES.fullmatch(found) else found


def _without_ends(name: str) -> str:
    """A name cut to the bytes of a name of a folder, without what such a name must not begin or end with."""
    cut = re.sub(r"^[\s.-]+", "", name).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return re.sub(r"[\s.]+$", "", cut)
