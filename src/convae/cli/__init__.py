"""The command line: one command per file, found by the registry."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from convae.cli._hints import similar_option
from convae.cli._options import Trust
from convae.cli._streams import steady_streams
from convae.core.errors import ConvaeError, ReportedElsewhereError
from convae.core.memory import is_out_of_memory
from convae.core.names import escape_controls
from convae.core.notes import take_notes
from convae.core.paths import local_path
from convae.core.registry import Registry
from convae.core.trust import trusted_packages
from convae.core.version import VERSION

COMMANDS = Registry(__name__, "command", is_open=False)
_OPEN_NO_MODEL = {"cache", "data", "import", "models", "presets", "pull", "push", "recipes"}
PANELS = ("Start", "Look", "Use", "Tune", "Share")
_UNWRITTEN = 1
_USAGE = 2
_INTERRUPTED = 130
# Typer brings its own copy of click and offers the base of its usage errors under no name of its own.
_UsageProblem: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Group(TyperGroup):
    """A group whose flags, such as `--help`, are False rather than None where they are not given.

    Typer imports pydantic, a tenth of a second, to convert None to a bool, even for the help of a command.
    """

    def get_params(self, ctx: Any) -> Any:
        """The parameters, with defaults that need no conversion."""
        params = super().get_params(ctx)
        for param in params:
            if param.default is None and getattr(param, "is_flag", False):
                param.default = False
        return params


class _Command(TyperCommand):
    """A command that refuses an option with a value which is given twice, instead of using the last alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments; raises a usage error for a repeated option."""
        if args and not ctx.resilient_parsing:  # as it is to complete a command line
            _, _, given = self.make_parser(ctx).parse_args(args=list(args))
            for param in given:
                single = not (getattr(param, "is_flag", True) or param.multiple or param.nargs != 1)
                if single and given.count(param) > 1:
                    ctx.fail(f"{param.opts[0]} is given twice. Give it once; commas separate the values of a list")
        return super().parse_args(ctx, args)


def _app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The application with the command that the arguments name, or with every command.

    Reading the signatures of the other commands would take time.
    """
    app = typer.Typer(
        name="convae",
        cls=_Group,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        epilog="Start with `convae train --data digits`, or `convae data FOLDER` on your own images.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    names = COMMANDS.names()
    for panel, shown in _panels([name for name in arguments[:1] if name in names] or names).items():
        for name in shown:
            app.command(name, cls=_Command, rich_help_panel=panel)(command(name))
    return app


def _panels(names: Sequence[str]) -> dict[str, list[str]]:
    """The commands under the headings of the help, in a reader's order."""
    panels: dict[str, list[str]] = {panel: [] for panel in PANELS}
    for name in sorted(names, key=lambda name: (name != "train", name)):
        panels[sys.modules[COMMANDS.get(name).__module__].PANEL].append(name)
    return panels


def command(name: str) -> Callable[..., Any]:
    """A command as it is offered: its function, `--trust` where it may open saved models, and `~` in paths.

    No shell writes out the `~` in `--out=~/runs`.
    """
    function = COMMANDS.get(name)

    @functools.wraps(function)
    def run(*, trust: list[str] | None = None, **given: Any) -> Any:
        with trusted_packages(trust or ()):
            return function(
                **{name: local_path(value) if isinstance(value, Path) else value for name, value in given.items()}
            )

    if name not in _OPEN_NO_MODEL:
        signature = inspect.signature(function, eval_str=True)
        added = inspect.Parameter("trust", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Trust)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # which Typer reads
            parameters=[*signature.parameters.values(), added]
        )
        run.__annotations__ = {**function.__annotations__, "trust": Trust}
    return run


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"convae {VERSION}")
        raise typer.Exit
    return asked


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Describe, train, measure and use convolutional variational autoencoders."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; bad input prints a message on stderr and exits with 2.

    Errors of printing do not end a command. If its output could not be written, for example on a full disk, it exits
    with 1 at its end.
    """
    with steady_streams() as output:
        code = _run(arguments)
        output.flush()
        if code == 0 and output.failure is not None:
            _say(f"the output could not be written ({output.failure.strerror})")
            code = _UNWRITTEN
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    """The exit code of a command."""
    from convae.core.console import show_notes

    try:
        take_notes()
        given = sys.argv[1:] if arguments is None else arguments
        code = _app(given)(args=given, prog_name="convae", standalone_mode=False)
        show_notes()
    except ReportedElsewhereError:
        return _USAGE
    except ConvaeError as error:
        _say(str(error))
        return _USAGE
    except _UsageProblem as problem:
        text = str(problem.format_message())  # type: ignore[attr-defined]  # every usage error has it
        if type(problem).__name__ == "NoArgsIsHelpError":
            return _USAGE  # the help is printed already
        text = text.replace("Value error, ", "")
        _say(_unknown_option(problem) or text[:1].lower() + text[1:].rstrip("."))
        return _USAGE
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        _say(
            "out of memory. Use a smaller --batch-size or smaller images, or end other programs; for training, "
            "`convae find-batch-size` finds the largest batch size"
        )
        return _USAGE
    return code if isinstance(code, int) else 0


def _unknown_option(problem: Any) -> str | None:
    """Message for an unknown option; None for other errors."""
    written, context = getattr(problem, "option_name", None), getattr(problem, "ctx", None)
    if context is None or written is None or not type(problem).__name__.startswith("NoSuchOption"):
        return None
    options = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
    similar = similar_option(written, options)
    hint = f"did you mean {similar}?" if similar else f"see {context.command_path} --help"
    if any("key.path=value" in (getattr(parameter, "metavar", None) or "") for parameter in context.command.params):
        hint += ("" if similar else ".") + " Every key of a recipe is written without dashes, as key.path=value"
    return f"no such option: {written}: {hint}"


def _say(sentence: str) -> None:
    sys.stderr.write(f"convae: {escape_controls(sentence)}\n")


__all__ = ["main"]
