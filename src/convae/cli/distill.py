"""`convae distill`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from convae.cli._options import with_option_groups
from convae.cli._trainings import LengthOptions, PlaceOptions, finish, overrides_of
from convae.core.errors import ConfigError

PANEL = "Start"
"""The heading under which the help lists the command."""


@dataclass(frozen=True)
class StudentOptions:
    """The parts to train."""

    panel: ClassVar = "Student"
    part: Annotated[
        list[str] | None,
        typer.Option(help="A part to train, decoder or encoder; may be given several times.", show_default="decoder"),
    ] = None
    decoder: Annotated[
        str | None,
        typer.Option(help="Its decoder: a preset, '{taesd: {width: 32}}' or a list of layers.", show_default="small"),
    ] = None
    encoder: Annotated[str | None, typer.Option(help="Its encoder, in the same forms.", show_default="small")] = None
    width: Annotated[
        int | None, typer.Option(min=1, help="Channels of a small part.", show_default="a tenth of the FLOPs")
    ] = None
    blocks: Annotated[int, typer.Option(min=1, help="Residual blocks of each stage of a small part.")] = 1


@with_option_groups
def distill(
    student: StudentOptions,
    length: LengthOptions,
    place: PlaceOptions,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL [key.path=value ...]",
            help="A run or an artifact, and options of a recipe.",
        ),
    ] = None,
) -> int:
    """Train a small decoder, or encoder, from the latents of a trained model, its teacher.

    All other parts of the model are taken over and stay as they are, so that latents and codes remain valid. The new
    run in runs/ holds an ordinary model. Latents are computed once and kept in the cache.

    By default the student has the structure of TAESD and a tenth of the teacher's FLOPs. Its loss is the squared error
    to the reconstructions of the teacher: `objective.distillation.distance=absolute` changes it, and
    `objective.reconstruction=1` or `objective.perceptual.network=efficientnet-lite0` add terms of the images.

    Ctrl-C stops after the current step and saves; `convae train --resume RUN` continues.

    Example: `convae distill runs/mnist`

    `convae distill runs/flowers --width 32 --blocks 2 --epochs 30`
    """
    from convae.cli._screen import work_bar
    from convae.training import distill as train_student
    from convae.training.report import TrainingReport

    words = [word for word in arguments or [] if "=" not in word]
    overrides = [word for word in arguments or [] if word not in words]
    if len(words) != 1:
        raise ConfigError("give one model, such as: convae distill runs/mnist")
    parts: list[Any] = student.part or []
    with work_bar() as bar:
        run = train_student(
            words[0],
            parts=parts,
            decoder=_network(student.decoder),
            encoder=_network(student.encoder),
            width=student.width,
            blocks=student.blocks,
            overrides=[*overrides_of({**place.keys(), **length.keys()}), *overrides],
            out=place.out,
            callback=TrainingReport(bar),
            progress=bar,
        )
    return finish(run)


def _network(written: str | None) -> Any:
    """A network on the command line: the name of a preset, or YAML."""
    from convae.core.documents import parse_yaml

    return parse_yaml(written, "the network") if written and written[0] in "[{" else written
