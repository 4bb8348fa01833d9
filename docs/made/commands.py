"""The command line, as the commands themselves declare it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any, Literal

import typer

from convae.cli import COMMANDS, command
from made.tables import table
from made.values import type_in_words, value_in_words


def commands(level: int = 2) -> str:
    """A heading for each command, its line, what it does, and its arguments and options.

    Args:
        level: of the headings.
    """
    parts: list[str] = []
    for name in COMMANDS.names():
        parts += [f"(command-{name})=", f"{'#' * level} `convae {name}`", "", *_lines(name)]
    return "\n".join(parts)


def _lines(name: str) -> Iterator[str]:
    given = parameters(name)
    words = [_shown(one) for one in given if one.param_type_name == "argument"]
    yield f"```text\nconvae {name} {' '.join([*words, '[OPTIONS]'])}\n```\n"
    yield f"{inspect.getdoc(COMMANDS.get(name))}\n"
    hints = typing.get_type_hints(command(name))
    yield table(["", "default", ""], ([_written(one), _default(one), _help(one, hints[one.name])] for one in given))


def parameters(name: str) -> list[Any]:
    """The arguments and options of a command, as Typer understands its signature."""
    app = typer.Typer(add_completion=False)
    app.command(name)(command(name))
    return list(typer.main.get_command(app).params)


def _shown(argument: Any) -> str:
    """An argument in a usage line."""
    if argument.metavar:
        return str(argument.metavar)
    word = argument.name.upper() + (" …" if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _written(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_shown(parameter)}`"
    return ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])


def _help(parameter: Any, annotation: Any) -> str:
    """The sentence of help, and what may be chosen where there is a choice."""
    choices = [part for part in (annotation, *typing.get_args(annotation)) if typing.get_origin(part) is Literal]
    return f"{parameter.help or ''} {' '.join(f'{type_in_words(choice).capitalize()}.' for choice in choices)}".strip()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "*required*"
    return "" if parameter.default is None or parameter.default is False else value_in_words(parameter.default)
