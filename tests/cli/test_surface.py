"""The surface of the command line is frozen: what scripts rely on changes on purpose or not at all.

After a change on purpose: `python tests/cli/test_surface.py` writes the new surface.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_type_hints

from typer.main import get_command

from convae.cli import COMMANDS, PANELS, _app, command

SURFACE = Path(__file__).with_name("surface.txt")


def surface() -> str:
    """Every command with its arguments, options, types and defaults."""
    lines = []
    for name, parsed in sorted(get_command(_app()).commands.items()):  # type: ignore[attr-defined]  # it is a group
        lines.append(f"convae {name}")
        kinds = get_type_hints(command(name))
        for parameter in parsed.params:
            names = " ".join([*parameter.opts, *parameter.secondary_opts])
            default = "" if parameter.required else f" = {parameter.default!r}"
            lines.append(f"  {names}: {inspect.formatannotation(kinds[parameter.name])}{default}")
    return "\n".join(lines) + "\n"


def test_the_surface_is_as_it_was() -> None:
    assert surface() == SURFACE.read_text(encoding="utf-8"), "renew it with: python tests/cli/test_surface.py"


def test_every_command_and_option_says_what_it_does() -> None:
    group = get_command(_app())
    assert set(group.commands) == set(COMMANDS.names())  # type: ignore[attr-defined]
    for name, offered in group.commands.items():  # type: ignore[attr-defined]
        assert (offered.help or "").strip(), name
        assert offered.rich_help_panel in PANELS, name
        assert f"convae {name}" in offered.help.partition("Example:")[2], name
        for parameter in offered.params:
            assert parameter.help, f"{name} {parameter.name}"


if __name__ == "__main__":
    SURFACE.write_text(surface(), encoding="utf-8")
