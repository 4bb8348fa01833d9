"""Names and values in messages: suggestions, short representations, escapes."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_LONGEST = 300


class _Flow(reprlib.Repr):
    """Representation on one line in YAML's flow style; layers without arguments by name only."""

    def repr_str(self, x: str, level: int) -> str:
        """Without quotes."""
        return x if x.replace("-", "").replace("_", "").isalnum() else super().repr_str(x, level)

    def repr_NoneType(self, x: None, level: int) -> str:  # noqa: N802  # reprlib calls it by the type's name
        """YAML's `null`."""
        return "null"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """`{conv: {channels: 8}}`, and `silu` for `{silu: {}}`."""
        if len(x) == 1 and list(x.values()) == [{}]:
            return self.repr1(next(iter(x)), level)
        if level <= 0 and x:
            return "{…}"
        pairs = [f"{self.repr1(key, level - 1)}: {self.repr1(x[key], level - 1)}" for key in x]
        return f"{{{', '.join(pairs)}}}"


_FLOW = _Flow()
_FLOW.maxstring = _FLOW.maxother = 60


def short_repr(value: object) -> str:
    """A value as in Python source, truncated if long."""
    return _SHORT.repr(value)


def flow_repr(value: object) -> str:
    """A value in YAML's flow style, truncated if long."""
    return _FLOW.repr(value)


def one_line(error: object) -> str:
    """An error message on one line, truncated if long."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def count_text(count: int, noun: str) -> str:
    """`1 image`, `2,000 images`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def array_error(error: BaseException) -> str:
    """One line on why NumPy could not read a file, without its advice to unpickle it."""
    return "not an array file" if "pickle" in str(error) else one_line(error)


def escape_controls(text: str) -> str:
    r"""Escapes text for a terminal.

    Control characters, bidirectional overrides and bytes that are not UTF-8 become escapes such as `\x1b`; line breaks
    and tabs are kept.
    """
    return _ACTING.sub(_escaped, text)


_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def nearest_name(name: str, choices: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The choice most similar to `name`; None if no similarity reaches `cutoff`, from 0 to 1."""
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=cutoff)
    return lowered[found[0]] if found else None


def unknown_message(kind: str, name: str, choices: Iterable[str]) -> str:
    """Message for an unknown `name`, with the most similar choice or a list of all."""
    choices = sorted(choices)
    # A number is not a typo of another number.
    match = None if name.isdigit() else nearest_name(name, choices)
    if match is not None:
        return f"unknown {kind} '{name}': did you mean '{match}'?"
    return f"unknown {kind} '{name}'" + (f": choose from {', '.join(choices)}" if choices else "")


def class_names(numbers: Sequence[int], names: Sequence[str] | None) -> dict[int, str]:
    """Names of classes by number; without names, the numbers padded to equal length."""
    known = dict(enumerate(names or ()))
    return {number: known.get(number, f"{number:0{len(str(numbers[-1]))}}") for number in numbers}


def shape_text(shape: Iterable[int]) -> str:
    """Formats a shape: `3×64×64`."""
    return "×".join(str(size) for size in shape)
