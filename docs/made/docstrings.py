"""Google-style docstrings, parsed and converted for Sphinx."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Note|Example):$")
_ENTRY = re.compile(r"(\w+)(?: \([^)]*\))?: (.*)$")


@dataclass(frozen=True)
class Docstring:
    """A docstring in parts.

    Attributes:
        text: everything before the first section.
        sections: the lines of each section, without their indent.
    """

    text: str
    sections: dict[str, list[str]]

    @property
    def entries(self) -> dict[str, str]:
        """What is said of each argument and attribute, in one line each."""
        found: dict[str, str] = {}
        name = ""
        for line in self.sections.get("Args", []) + self.sections.get("Attributes", []):
            entry = None if line.startswith(" ") else _ENTRY.match(line)
            if entry:
                name = entry[1]
                found[name] = entry[2]
            elif name:
                found[name] = f"{found[name]} {line.strip()}".strip()
        return found


def docstring(thing: object) -> Docstring:
    """The parts of the docstring of a class, function or module."""
    text: list[str] = []
    sections: dict[str, list[str]] = {}
    into = text
    for line in (inspect.getdoc(thing) or "").splitlines():
        header = _SECTION.match(line)
        if header:
            into = sections.setdefault(header[1], [])
        else:
            into.append(line.removeprefix("    ") if sections else line)
    return Docstring("\n".join(text).strip(), sections)


def as_restructured_text(lines: list[str]) -> list[str]:
    """A docstring of this project as reStructuredText.

    Stars and bars outside of code are meant as they stand (`*sizes`, `p(x | z)`), as is an indented drawing.
    """
    result: list[str] = []
    section = literal = False
    for line in lines:
        if line and not line.startswith(" "):
            section, literal = bool(_SECTION.match(line)), False
        elif line and not section and not literal and result and not result[-1]:
            result += ["::", ""]
            literal = True
        result.append(line if literal else _escaped(line))
    return result


def _escaped(line: str) -> str:
    """A line whose stars, bars and trailing underscores outside of backticks stand for themselves.

    Code ends at its backtick, also where a letter follows, as in `Call`s.
    """
    parts = re.split(r"(`[^`]*`)", line)
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", "".join(parts))
