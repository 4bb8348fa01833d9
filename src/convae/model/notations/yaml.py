"""convae's own notation: a mapping with lists of layers, as YAML."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

from yaml import safe_dump

from convae.model.description import Spec

WIDTH = 110


def yaml(spec: Spec) -> str:
    """The stored form of a model as YAML, one layer a line where it fits."""
    lines = []
    for key, value in spec.model_dump(mode="json").items():
        if key in ("encoder", "decoder"):
            lines += [f"{key}:", *(_entry(item) for item in value)] if value else [f"{key}: []"]
        else:
            lines.append(_flow({key: value})[1:-1])
    return "\n".join([*lines, ""])


def _entry(item: Any) -> str:
    """One layer of a list: a bare name without arguments, else in one line, or else in several."""
    if isinstance(item, Mapping) and not any(item.values()):
        (item,) = item
    line = f"  - {_flow(item)[1:-1] if isinstance(item, Mapping) else item}"
    if len(line) <= WIDTH:
        return line
    return textwrap.indent(safe_dump([item], sort_keys=False, default_flow_style=None, width=WIDTH), "  ").rstrip()


def _flow(value: Any) -> str:
    """A value in one line."""
    return safe_dump(value, sort_keys=False, default_flow_style=True, width=math.inf).removesuffix("\n...\n").strip()
