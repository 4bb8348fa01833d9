"""Reading YAML and JSON configuration, with limits on size, depth and aliases.

Scalars follow YAML 1.2: `010` is ten; `1:30`, `yes` and `2024-01-01` are strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from convae.core.errors import ConfigError
from convae.core.files import read_bytes
from convae.core.names import one_line

MAX_BYTES = 4 << 20
"""Size limit of a configuration file, in bytes."""
MAX_DEPTH = 100
"""Depth limit of nested mappings and lists."""
MAX_VALUES = 200_000
"""Limit of the number of values of a document, with aliases expanded."""
_MERGE = "tag:yaml.org,2002:merge"
_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
)


class _Words(yaml.constructor.SafeConstructor, yaml.resolver.Resolver):
    """Safe YAML with the scalars of YAML 1.2; duplicate keys are errors."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # type: ignore[misc]  # the stub has it of instances

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE]
        if (key := _repeated(keys)) is not None:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}'", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer: decimal (leading zeros allowed), `0o` octal or `0x` hexadecimal."""
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        base = {"0o": 8, "0x": 16}.get(text.lstrip("-+")[:2], 10)
        return int(text, base)


for _tag, _pattern, _first in _RESOLVERS:
    _Words.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Words.add_constructor("tag:yaml.org,2002:int", _Words.construct_yaml_int)  # type: ignore[type-var]  # the stub wants a whole loader


class _Loader(_Words, yaml.SafeLoader):
    """The pure Python loader."""


def _loader(text: str) -> Any:
    """The loader for a text: libyaml's, which is five times as fast, unless it is not built or cannot read the text.

    libyaml refuses surrogate escapes, which JSON uses for characters beyond 16 bits, and YAML for bytes of file names.
    """
    if _FAST is None or re.search(r"\\u[dD][89a-fA-F]", text):
        return _Loader
    return _FAST


_FAST = type("_FastLoader", (_Words, yaml.CSafeLoader), {}) if hasattr(yaml, "CSafeLoader") else None


def parse_yaml(text: str, source: str) -> Any:
    """Parses YAML or JSON.

    Args:
        text: YAML.
        source: name of the source for messages; a name that ends in `.json` makes it JSON.

    Raises:
        ConfigError: the text is invalid, too large or nested too deeply; the message names `source` and the line.
    """
    if source.endswith(".json"):
        return _parse_json(text, source)
    try:
        _check_depth(text, source)
        loader = _loader(text)(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, source, {}, set())
            return _joined(loader.construct_document(node), source)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        # libyaml reports the end of a text one line too late.
        place = f" line {min(mark.line, text.rstrip().count(chr(10))) + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0] or "nested too deeply"
        hint = ". Write a space after each colon" if problem == "found unexpected ':'" else ""
        raise ConfigError(f"{source}{place}: not valid YAML ({problem}){hint}") from error


def _parse_json(text: str, source: str) -> Any:
    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if (key := _repeated(key for key, _ in pairs)) is not None:
            raise ConfigError(f"{source}: duplicate key '{key}'")
        return dict(pairs)

    try:
        return _joined(json.loads(text, object_pairs_hook=mapping), source)
    except (ValueError, RecursionError) as error:
        place = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        problem = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", None) or error
        if isinstance(error, json.JSONDecodeError) and text[error.pos : error.pos + 1] == "(":
            problem = "JSON has no parentheses. Use square brackets, as in [8, 3, [2, 2]]"
        raise ConfigError(f"{source}{place}: not valid JSON ({problem})") from error


def _repeated(keys: Iterable[Any]) -> Any:
    """The first duplicate key; None without one."""
    seen: set[Any] = set()
    return next((key for key in keys if key in seen or seen.add(key)), None)  # type: ignore[func-returns-value]  # None is false


def _check_depth(text: str, source: str) -> None:
    """Refuses deep structures before any recursive function visits them."""
    depth = 0
    for event in yaml.parse(text, Loader=_loader(text)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"{source}: nested too deeply: more than {MAX_DEPTH} levels of lists and mappings")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _count(node: yaml.Node, source: str, known: dict[int, int], above: set[int]) -> int:
    """Number of values in a node with aliases expanded; too many, or a recursive alias, are errors."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise ConfigError(f"{source}: recursive alias: a list or mapping contains itself")
    if id(node) not in known:
        above.add(id(node))
        inner = node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_count(each, source, known, above) for each in inner)
        above.remove(id(node))
    if known[id(node)] > MAX_VALUES:
        raise ConfigError(f"{source}: contains more than {MAX_VALUES:,} values; not a configuration file")
    return known[id(node)]


def _joined(value: Any, source: str) -> Any:
    """The value with surrogate pairs, as in JSON escapes, joined to characters.

    Lone surrogates that stand for a byte of a file name are kept; others are errors.
    """
    if isinstance(value, str):
        if value.isascii() or not re.search("[\ud800-\udfff]", value):
            return value
        text = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if re.search("[\ud800-\udc7f\udd00-\udfff]", text):
            raise ConfigError(f"{source}: {one_line(ascii(text))} contains an unpaired surrogate")
        return text
    if isinstance(value, list):
        return [_joined(item, source) for item in value]
    if isinstance(value, dict):
        return {_joined(key, source): _joined(item, source) for key, item in value.items()}
    return value


def read_text(path: Path) -> str:
    """Reads the text of a configuration file.

    Raises:
        ConfigError: the file is missing, unreadable, not a regular file, too large, or not UTF-8.
    """
    try:
        return read_bytes(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8") from error
    except (OSError, ValueError) as error:  # a NUL in a name raises ValueError
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_value(path: Path) -> Any:
    """Reads a YAML or JSON file.

    Raises:
        ConfigError: the file cannot be read or is invalid.
    """
    return parse_yaml(read_text(path), str(path))


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads a YAML or JSON file that contains a mapping.

    Raises:
        ConfigError: the file cannot be read, is invalid, or contains something else.
    """
    value = read_value(path)
    if not isinstance(value, dict):
        found = "an empty file" if value is None else f"a {type(value).__name__}"
        raise ConfigError(f"{path}: must contain a mapping, got {found}")
    return {str(key): item for key, item in value.items()}
