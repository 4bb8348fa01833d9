"""The public surface of the library is frozen: what programs rely on changes on purpose or not at all.

After a change on purpose: `PYTHONPATH=docs python tests/test_surface.py` writes the new surface.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from made.modules import entries, homes, model_bases, public_modules
from pydantic import BaseModel

import convae
from convae.core.registry import Registry

SURFACE = Path(__file__).with_name("surface.txt")
_HIDDEN = ("model_config", "model_post_init", "example")


def surface() -> str:
    """Every public name with its signature, and the entries of the registries."""
    known = homes()
    lines: list[str] = []
    for module in public_modules():
        offered = importlib.import_module(module)
        for name in offered.__all__:
            place = f"{module}.{name}"
            if place in public_modules():
                continue
            thing = getattr(offered, name)
            is_code = inspect.isclass(thing) or inspect.isfunction(thing)
            if is_code and known[id(thing)] != place:
                lines.append(f"{place} = {known[id(thing)]}")
            elif isinstance(thing, Registry):
                lines.append(f"{place}: registry of {thing.group}")
                if module.count(".") > 1:
                    for where, entry in entries(thing).items():
                        lines += _described(where, entry)
            else:
                lines += _described(place, thing)
    return "\n".join(lines) + "\n"


def _described(place: str, thing: Any) -> Iterator[str]:
    if inspect.isfunction(thing):
        yield f"{place}{_signature(thing)}"
    elif inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        takes = "" if issubclass(thing, BaseModel) or _is_protocol(thing) else _signature(thing)
        yield f"{place}({bases}){takes and ': ' + takes}"
        yield from sorted({line for each in (thing, *model_bases(thing)) for line in _members(each)})
    else:
        yield f"{place}: {type(thing).__name__}"


def _is_protocol(thing: type) -> bool:
    return getattr(thing, "_is_protocol", False) is True


def _members(thing: type) -> Iterator[str]:
    """Methods, properties and fields that a class declares."""
    fields = vars(thing).get("__annotations__", {})
    for name, kind in fields.items():
        if not name.startswith("_") and name not in _HIDDEN:
            yield f"  .{name}: {kind}"
    for name, value in vars(thing).items():
        if name.startswith("_") or name in _HIDDEN or name in fields:
            continue
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(value):
            yield f"  .{name}{_signature(value)}"
        elif isinstance(value, property):
            yield f"  .{name}"


def _signature(thing: Any) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(...)"
    text = str(signature.replace(return_annotation=inspect.Signature.empty) if inspect.isclass(thing) else signature)
    return re.sub(r" at 0x[0-9a-f]+", "", text.replace("'", ""))


def test_the_surface_is_as_it_was() -> None:
    # In a process of its own, since the tests' type checks change annotations.
    here = [str(Path(__file__).parent.parent / "docs"), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(here)}
    shown = subprocess.check_output([sys.executable, __file__, "--show"], text=True, env=environment)
    assert shown == SURFACE.read_text(encoding="utf-8"), "renew it with: PYTHONPATH=docs python tests/test_surface.py"


def test_every_package_lists_its_public_names_and_has_them() -> None:
    packages = [module.name for module in pkgutil.walk_packages(convae.__path__, "convae.") if module.ispkg]
    for name in ["convae", *packages]:
        package = importlib.import_module(name)
        assert isinstance(package.__all__, list), name
        for each in package.__all__:
            assert hasattr(package, each) or importlib.import_module(f"{name}.{each}"), f"{name}.{each}"


if __name__ == "__main__":
    if "--show" in sys.argv:
        sys.stdout.write(surface())
    else:
        SURFACE.write_text(surface(), encoding="utf-8")
