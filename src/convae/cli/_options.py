"""Arguments and options that several commands share, and dataclasses of options that belong together.

A command takes such a dataclass as one parameter; `with_option_groups` offers its fields as options of their own,
under the heading `panel` where the dataclass has one.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import typer

if TYPE_CHECKING:
    from convae.core.progress import Progress
    from convae.latents import Session

Result = TypeVar("Result")
Split = Literal["train", "validation", "test", "all"]

Model = Annotated[
    Path,
    typer.Argument(help="An artifact folder, a run folder, or the name of a pretrained model.", show_default=False),
]
Images = Annotated[
    list[str],
    typer.Argument(help="Image files, positions in the split (counted from 0), or image names.", show_default=False),
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder that holds data sets.", show_default=False)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images per batch.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Refine = Annotated[
    int,
    typer.Option(
        "--refine",
        min=0,
        help="Refine the posterior of each image by this many steps on its ELBO, such as 50; each takes about three "
        "passes through the decoder.",
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="Conditional models: class to decode as, by name or number; also the class of images without a label.",
        show_default=False,
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="PACKAGE",
        help="A package outside convae whose code a saved model or a run may use; may be given several times.",
        show_default=False,
    ),
]
MissingLabel = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="Conditional models: class of the images that have no label, by name or number.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class DataOptions:
    """The images that a command uses, and the device of the model."""

    data: Annotated[
        str | None, typer.Option("--data", help="A data set's name or a folder of images.", show_default=False)
    ] = None
    data_dir: DataDir = None
    split: Annotated[
        Split | None,
        typer.Option("--split", help="Part of the data set.", show_default="test of the training data, else all"),
    ] = None
    device: Device = "auto"


@dataclass(frozen=True)
class AllDataOptions(DataOptions):
    """The same, with all splits as the default."""

    split: Annotated[Split | None, typer.Option("--split", help="Part of the data set.", show_default="all")] = None


@dataclass(frozen=True)
class OutputOptions:
    """The folder that pictures and tables are written to."""

    out: Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)]
    force: Force = False
    show: Annotated[bool, typer.Option("--open", help="Open the picture when it is done.")] = False


@dataclass(frozen=True)
class ScoreOptions:
    """The anomaly score of an image."""

    score: Annotated[
        str, typer.Option("--score", help="Anomaly score: elbo (negative ELBO), nll, reconstruction, kl, …")
    ] = "elbo"
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help="Latents per image, for elbo and nll.", show_default="1; 64 for nll"),
    ] = None
    seed: Seed = 0
    batch_size: BatchSize = 256

    def arguments(self) -> dict[str, Any]:
        """Arguments of `convae.evaluation.score_images`."""
        options = None if self.samples is None else {self.score: {"samples": self.samples}}
        return {"score": self.score, "options": options, "seed": self.seed, "batch_size": self.batch_size}


def with_option_groups(command: Callable[..., Result]) -> Callable[..., Result]:
    """A command whose parameters of a dataclass type are replaced by the dataclass's fields, as Typer needs them."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind) and isinstance(kind, type)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [one for one in inspect.signature(command).parameters.values() if one.name not in groups]
    parameters = [one.replace(annotation=hints[one.name], kind=keyword) for one in own]
    for group in groups.values():  # after the command's own options, which the help lists first
        types = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                keyword,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=_in_panel(types[field.name], getattr(group, "panel", None)),
            )
            for field in fields(group)
        ]

    @functools.wraps(command)
    def flat(**given: Any) -> Result:
        for name, group in groups.items():
            names = [field.name for field in fields(group) if field.name in given]
            given[name] = group(**{field: given.pop(field) for field in names})
        return command(**given)

    del flat.__wrapped__  # set by `wraps`; tools would read its signature
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which Typer reads
    flat.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": hints.get("return")}
    return flat


def _in_panel(annotation: Any, panel: str | None) -> Any:
    """An annotated option, listed under a heading of the help."""
    if panel is None:
        return annotation
    kind, option = get_args(annotation)
    option = copy.copy(option)
    option.rich_help_panel = panel
    return Annotated[kind, option]


def open_session(model: Path, options: DataOptions, progress: Progress | None = None, **more: Any) -> Session:
    """The session that a command's options describe.

    Args:
        model: an artifact or a run.
        options: the images.
        progress: called with the number of images that are done.
        more: other arguments of `Session`, such as `label`.
    """
    from convae.cli._parsing import data_source
    from convae.latents import Session

    return Session(
        model,
        data=None if options.data is None else data_source(options.data, "--data"),
        data_dir=options.data_dir,
        split=options.split,
        device=options.device,
        progress=progress,
        **more,
    )
